"""What the examples share: drawn Gaussian clusters, two of which overlap, and what an example returns."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

CLASSES = 6
SIZE = 16
CONFUSABLE = (0, 1)
BATCH = 64


class Result(NamedTuple):
    """Mean loss of each epoch, how often the step was traced, the last weights, the parameters."""

    losses: list[float]
    traces: int
    class_weights: np.ndarray
    pair_weights: np.ndarray
    parameters: Any


def clusters(images_per_class: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, SIZE) float32 and labels (n,) int32; the classes of `CONFUSABLE` lie close together."""
    rng = np.random.default_rng(0)
    centres = 3.0 * rng.normal(size=(CLASSES, SIZE))
    first, second = CONFUSABLE
    centres[second] = centres[first] + 0.4
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), images_per_class)
    images = centres[labels] + rng.normal(size=(labels.size, SIZE))
    return images.astype(np.float32), labels


def l2_normalize(values: jax.Array) -> jax.Array:
    """Rows of length 1, with a finite gradient at 0."""
    return values * jax.lax.rsqrt(jnp.maximum(jnp.sum(values**2, axis=-1, keepdims=True), 1e-12))


def describe(result: Result) -> str:
    """What the scripts print at the end."""
    i, j = np.unravel_index(result.pair_weights.argmax(), result.pair_weights.shape)
    return "\n".join(
        [
            "loss of each epoch: " + ", ".join(f"{loss:.3f}" for loss in result.losses),
            "class weights: " + ", ".join(f"{weight:.2f}" for weight in result.class_weights),
            f"most confused: class {i} called {j}, {result.pair_weights[i, j]:.0%} of all confusion",
            f"the step was traced {result.traces} time(s)",
        ]
    )
