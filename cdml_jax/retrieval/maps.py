"""Embeddings as points of a plane, near where they are near: t-SNE of some, the others among them."""

from __future__ import annotations

import importlib.util
import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

LANDMARKS = 1_000
"""Embeddings that t-SNE places: the time of more is quadratic (5 seconds for these, on one core)."""
_PRINCIPAL, _ITERATIONS, _PERPLEXITY, _NEAREST = 30, 300, 30, 3
_FEWEST = 5


def embedding_map(
    embeddings: Float[np.ndarray, "images size"], *, seed: int = 0
) -> Float[np.ndarray, "images 2"] | None:
    """Places of embeddings in the unit square; None without scikit-learn, or for fewer than five.

    t-SNE of the first principal components places at most `LANDMARKS` of them, spread over the order. Each
    other one stands at the mean of its three nearest landmarks, weighted by their nearness. Distances on such
    a map mean little, neighbourhoods something.

    Args:
      embeddings: finite numbers.
      seed: of t-SNE.

    Returns:
      float16.

    Source: L. van der Maaten and G. Hinton, "Visualizing Data using t-SNE", JMLR 2008.
    """
    number = len(embeddings)
    if number < _FEWEST or importlib.util.find_spec("sklearn") is None:
        return None
    from sklearn.manifold import TSNE  # here: the extra `report` brings it

    values = np.asarray(embeddings, np.float32)
    chosen = np.unique(np.linspace(0, number - 1, min(number, LANDMARKS)).round().astype(int))
    centred = values - values[chosen].mean(axis=0)
    _, _, axes = np.linalg.svd(centred[chosen], full_matrices=False)
    points = centred @ axes[:_PRINCIPAL].T
    if np.ptp(points[chosen], axis=0).max() < 1e-6:  # all are one
        return np.full((number, 2), 0.5, np.float16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of components without variance
        places = TSNE(
            perplexity=min(_PERPLEXITY, (len(chosen) - 1) / 3),
            max_iter=_ITERATIONS,
            method="exact" if len(chosen) <= LANDMARKS // 2 else "barnes_hut",
            init="pca" if points.shape[1] > 1 else "random",
            random_state=seed,
        ).fit_transform(points[chosen])
    found = np.empty((number, 2), np.float32)
    found[chosen] = places
    others = np.setdiff1d(np.arange(number), chosen)
    for start in range(0, len(others), LANDMARKS):
        rows = others[start : start + LANDMARKS]
        distances = np.linalg.norm(points[rows, None] - points[None, chosen], axis=2)
        near = np.argsort(distances, axis=1)[:, :_NEAREST]
        weights = 1.0 / (np.take_along_axis(distances, near, axis=1) + 1e-6)
        found[rows] = (places[near] * weights[..., None]).sum(axis=1) / weights.sum(axis=1, keepdims=True)
    low, extent = found.min(axis=0), np.ptp(found, axis=0).max()
    return ((found - low) / max(float(extent), 1e-6)).astype(np.float16)
