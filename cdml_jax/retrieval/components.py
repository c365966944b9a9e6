"""Connected components of masks on a device, and masks on finer maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array, Bool

NEIGHBOURS = (4, 8)


def largest_component(
    mask: Bool[Array, "batch height width"], *, neighbours: int = 8
) -> Bool[Array, "batch height width"]:
    """The largest connected component of each mask; of equal ones the first, row by row.

    Each position takes the smallest number among its neighbours until nothing changes: as many rounds as the
    longest path in a component has steps.

    Args:
      mask: true on the components.
      neighbours: 8, or 4 where corners that touch do not connect.

    >>> mask = jnp.array([[[1, 1, 0, 0], [0, 0, 1, 0], [1, 1, 0, 0]]], bool)
    >>> [int(largest_component(mask, neighbours=n).sum()) for n in (8, 4)]
    [5, 2]
    """
    if neighbours not in NEIGHBOURS:
        raise ValueError(f"neighbours must be 4 or 8, not {neighbours}")
    mask = jnp.asarray(mask, bool)
    batch, height, width = mask.shape
    background = height * width
    own = jnp.arange(background, dtype=jnp.int32).reshape(height, width)
    first = jnp.where(mask, own, background)

    def spread(labels: Array) -> Array:
        rows = _smallest_of_three(labels, 1)
        around = _smallest_of_three(rows if neighbours == 8 else labels, 2)
        return jnp.where(mask, jnp.minimum(rows, around), background)

    def differs(carry: tuple[Array, Array]) -> Array:
        return jnp.any(carry[0] != carry[1])

    # The first "before" differs everywhere, and is made of the mask: it is split over devices as that is.
    _, labels = jax.lax.while_loop(differs, lambda c: (c[1], spread(c[1])), (first - 1, first))
    labels = labels.reshape(batch, background)
    sizes = jnp.zeros((batch, background + 1), jnp.int32).at[jnp.arange(batch)[:, None], labels].add(1)
    largest = sizes[:, :background].argmax(axis=1).astype(jnp.int32)
    return (labels == largest[:, None]).reshape(mask.shape) & mask


def _smallest_of_three(labels: Array, axis: int) -> Array:
    """The smallest of each number and its two neighbours along an axis."""
    number = labels.shape[axis]
    before = jax.lax.slice_in_dim(labels, 0, number - 1, axis=axis)
    after = jax.lax.slice_in_dim(labels, 1, number, axis=axis)
    edges = [jax.lax.slice_in_dim(labels, at, at + 1, axis=axis) for at in (0, number - 1)]
    lower = jnp.concatenate([edges[0], before], axis=axis)
    upper = jnp.concatenate([after, edges[1]], axis=axis)
    return jnp.minimum(labels, jnp.minimum(lower, upper))


def enlarged(
    mask: Bool[Array, "batch height width"], shape: tuple[int, int]
) -> Bool[Array, "batch finer_height finer_width"]:
    """A mask on another map of the same image, by the nearest position: r ← ⌊r height / finer height⌋.

    >>> enlarged(jnp.array([[[True, False]]]), (2, 4)).tolist()
    [[[True, True, False, False], [True, True, False, False]]]
    """
    rows, columns = (np.arange(n) * old // n for n, old in zip(shape, mask.shape[1:]))
    return mask[:, rows][:, :, columns]
