"""What is remembered of each training image: its last prediction, how much that changed, its rank by it.

Every device holds all of it, n (2 C + 8) bytes for n images of C classes; a step gathers its batch's
predictions, 2 B C bytes, and what changed, 8 B.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from cdml_jax.distributed.mesh import gather_rows
from cdml_jax.regularizers import prediction_change

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Float16, Float32, Int

_UNKNOWN = -1.0  # a change is 0 or more


class ImageRecord(NamedTuple):
    """By place in the training split.

    Attributes:
      probabilities: of the classes when the image was last seen; zeros before.
      change: of its last two predictions, `prediction_change`; −1 before it was seen twice.
      rank: the share of the images whose predictions had changed more when the epoch began; 1 for those
        that had not been seen twice.
    """

    probabilities: Float16[Array, "images classes"]
    change: Float32[Array, " images"]
    rank: Float32[Array, " images"]


def empty_record(images: int, num_classes: int) -> ImageRecord:
    """Nothing was seen."""
    return ImageRecord(
        jnp.zeros((images, num_classes), jnp.float16),
        jnp.full(images, _UNKNOWN, jnp.float32),
        jnp.ones(images, jnp.float32),
    )


def kept_rows(
    record: ImageRecord, index: Int[Array, " rows"], share: Float[Array, ""]
) -> Bool[Array, " rows"]:
    """Rows whose images are not of the share that changed most."""
    return record.rank[index] >= share


def seen(
    record: ImageRecord, batch: dict[str, jax.Array], logits: Float[Array, "rows classes"], mesh: Mesh
) -> ImageRecord:
    """The record after a batch; rows that `mask` leaves out are not written."""
    images = record.change.shape[0]
    index = jnp.where(batch["mask"], batch["index"], images)  # beyond the last one: dropped by the scatter
    before = record.probabilities[jnp.minimum(index, images - 1)]
    change = jnp.where(before.any(axis=1), prediction_change(before, logits), _UNKNOWN)
    now = jax.nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    index, change, now = (
        gather_rows(mesh, rows)
        for rows in (index, change.astype(jnp.float32), now.astype(record.probabilities.dtype))
    )
    return record._replace(
        probabilities=record.probabilities.at[index].set(now, mode="drop"),
        change=record.change.at[index].set(change, mode="drop"),
    )


def ranked(record: ImageRecord) -> ImageRecord:
    """The record as the next epoch begins; images of equal change by their places."""
    images = record.change.shape[0]
    order = jnp.argsort(-record.change, stable=True)
    places = jnp.zeros(images, jnp.int32).at[order].set(jnp.arange(images, dtype=jnp.int32))
    rank = places.astype(jnp.float32) / images
    return record._replace(rank=jnp.where(record.change < 0, 1, rank).astype(jnp.float32))
