"""The embeddings of a split, for what is measured of them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from flax import nnx

from cdml_jax.training import mesh as mesh_lib
from cdml_jax.training.program import Program
from cdml_jax.training.state import TrainState
from cdml_jax.training.step import forward


def embed_split(program: Program, state: TrainState, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (n, size) and labels (n,) of a split in its order, by averaged weights where kept.

    Every process calls it, and every process gets all of them.
    """
    shardings, frozen = program.shardings.parameters, program.config.model.frozen

    @jax.jit
    def embed(parameters: Any, statistics: Any, images: jax.Array) -> jax.Array:
        gathered = mesh_lib.gather_parameters(parameters, shardings)
        network: Any = nnx.merge(program.graph, gathered, statistics)
        cut = network.cut(frozen) if frozen else None
        embeddings = forward(network, images, cut=cut, train=False).embeddings
        return mesh_lib.gather_rows(program.mesh, embeddings)

    parts = []
    for batch in program.evaluation_batches(split):
        images = mesh_lib.put_batch(program.mesh, {"image": batch["image"]})["image"]
        parts.append(np.asarray(embed(*state.in_use, images)))
    labels = np.asarray(program.source(split).labels)
    return np.concatenate(parts)[: labels.size], labels  # the last batch is padded
