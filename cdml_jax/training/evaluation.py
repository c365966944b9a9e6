"""The evaluation step: counts, embeddings and logits of a batch by the model as it is used."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.models.heads import Outputs
from cdml_jax.models.network import Network
from cdml_jax.training.step import Batch, forward
from cdml_jax.training.storage import EpochCounts, Storage


def evaluation_step(
    counts: EpochCounts,
    parameters: Any,
    statistics: Any,
    batch: Batch,
    *,
    graph: nnx.GraphDef[Network],
    shardings: Any,
    storage: Storage,
    soft: bool = False,
    cut: int | None = None,
    flip: bool = False,
    features: bool = False,
) -> tuple[EpochCounts, jax.Array, jax.Array]:
    """Counts with a batch added, its embeddings and its logits, by the model as it is used.

    That is with running statistics, without dropout.

    Args:
      counts: of the split so far; donate them.
      parameters, statistics, batch: as the training step takes them.
      graph, shardings, storage: bound once.
      soft: whether probabilities are counted, or predicted classes.
      cut: blocks of the network that are not trained; the batch then holds what comes after them.
      flip: whether logits are the means over an image and its mirror image.
      features: whether embeddings are the pooled features scaled to length 1, as if there were no projection.
    """
    model = nnx.merge(graph, mesh_lib.gather_parameters(parameters, shardings), statistics)
    if features:
        # The model was merged above and is seen by this call alone: no other one loses its projection.
        model.heads.projection = None
    logits, embeddings = evaluated(model, batch["image"], cut=cut, flip=flip)
    return storage.add(counts, batch, logits, soft=soft), embeddings, logits


def evaluated(model: Network, images: jax.Array, *, cut: int | None = None, flip: bool = False) -> Outputs:
    """What the network says of images when it is used.

    Args:
      model: a network of running statistics.
      images: bytes (batch, height, width, 3) or, behind a cut, what its front gave.
      cut: as `forward` takes it.
      flip: whether logits are the means over an image and its mirror image; embeddings are the image's own.
    """
    logits, embeddings = forward(model, images, cut=cut, train=False)
    if flip:
        mirrored, _ = forward(model, images[:, :, ::-1], cut=cut, train=False)
        logits = (logits + mirrored) / 2
    return Outputs(logits, embeddings)
