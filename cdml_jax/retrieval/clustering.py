"""How much clusters of embeddings say about the classes: normalised mutual information, by scikit-learn."""

from __future__ import annotations

import importlib.util
import math
import warnings
from typing import TYPE_CHECKING

import numpy as np

from cdml_jax.retrieval.checks import checked_embeddings, checked_labels, slices

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Float, Int

LARGEST = 50_000  # embeddings that commands cluster: k-means of more takes longer than all else they do
_QUERIES, _SAMPLE = 32, 1024  # embeddings that are looked at to choose a precision


def why_not(number: int) -> str | None:
    """Why a command leaves out the figure of so many embeddings, in one line; None if it does not.

    >>> why_not(60_000)
    'NMI is left out: 60,000 embeddings are more than the 50,000 that are clustered'
    """
    if importlib.util.find_spec("sklearn") is None:
        return "NMI is left out: it needs scikit-learn, which comes with pip install 'cdml_jax[report]'"
    if number > LARGEST:
        return f"NMI is left out: {number:,} embeddings are more than the {LARGEST:,} that are clustered"
    return None


def normalized_mutual_information(
    embeddings: Float[ArrayLike, "images size"], labels: Int[ArrayLike, " images"], *, seed: int = 0
) -> float:
    """`mutual_information` of the classes and as many k-means clusters of the embeddings.

    With as many classes as images the clusters are the images and the figure would be 1, whatever the
    embeddings are: it is NaN. With a few images a class it is high for noise as well (0.84 with two).

    Lloyd's algorithm from one k-means++ start, whatever the number of embeddings. It takes time as images x
    clusters x size x iterations: minutes for 60,000 embeddings in 1,000 clusters. Commands leave the figure
    out beyond `LARGEST` embeddings and say so; no coarser clustering takes its place, since figures of two
    algorithms cannot be compared. Needs scikit-learn (the extra `report`).

    Args:
      embeddings: one row an image.
      labels: their classes, integers.
      seed: of the clusters' first centres.

    Returns:
      From 0 (clusters say nothing about the classes) to 1; NaN where each image is a class of its own, or
      there is none.

    Raises:
      ValueError: an embedding that is not finite, or shapes that do not fit together.
      TypeError: embeddings that are not real numbers, labels that are not integers.
      ImportError: scikit-learn is absent.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    rows = checked_embeddings(embeddings, "embeddings")
    labels = checked_labels(labels, len(rows), "labels")
    number = np.unique(labels).size
    if number == labels.size:
        return math.nan
    rows = rows.astype(_precision(rows))
    with warnings.catch_warnings():
        # Of fewer distinct embeddings than classes: the figure says so by itself.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = KMeans(number, n_init=1, random_state=seed).fit_predict(rows)
    return mutual_information(labels, clusters)


def _precision(rows: Float[np.ndarray, "images size"]) -> type[np.floating]:
    """float32 where its products tell near embeddings apart, as on most sets; float64, slower, elsewhere.

    Squared distances by products are off by some eps of the largest squared length. Of a few embeddings the
    nearest is looked for, by differences, among some more.
    """
    some, more = (rows[:: -(-len(rows) // number)].astype(np.float64) for number in (_QUERIES, _SAMPLE))
    squares = np.stack([np.square(more - row).sum(axis=1) for row in some])
    nearest = np.where(squares > 0, squares, np.inf).min(axis=1)
    largest = max(
        float(np.square(rows[part].astype(np.float64)).sum(axis=1).max()) for part in slices(*rows.shape)
    )
    error = 16 * math.sqrt(rows.shape[1]) * np.finfo(np.float32).eps * largest
    fits = 1e-20 < largest < 1e20  # squares of numbers and of their sums
    return np.float32 if fits and np.median(nearest) > error else np.float64


def mutual_information(labels: Int[ArrayLike, " images"], clusters: Int[ArrayLike, " images"]) -> float:
    r"""How much two divisions of the same images say about each other.

    .. math:: \text{NMI} = \frac{I(y, k)}{(H(y) + H(k)) / 2}

    Args:
      labels: the class of every image, integers.
      clusters: the cluster of every image, integers.

    Returns:
      From 0 to 1, whatever the classes and clusters are called.

    Raises:
      ImportError: scikit-learn is absent.

    >>> round(mutual_information([0, 0, 1, 1], [5, 5, 2, 2]), 6)
    1.0

    Source: scikit-learn's `normalized_mutual_info_score`; so it is the NMI of pytorch-metric-learning's
    AccuracyCalculator, given the same clusters. Its own k-means, by faiss, draws other centres.
    """
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(np.asarray(labels), np.asarray(clusters)))
