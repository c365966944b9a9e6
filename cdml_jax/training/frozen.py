"""The front of a network that is not trained: computed once for every image of a data set."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from cdml_jax.data.dataset import Dataset, Source, Stamped
from cdml_jax.data.features import embed_split
from cdml_jax.data.sources import cache_directory
from cdml_jax.errors import UserError
from cdml_jax.models.network import Network
from cdml_jax.models.pretrained import load_weights
from cdml_jax.training import mesh as mesh_lib
from cdml_jax.training.state import split_model
from cdml_jax.training.step import normalize_images

if TYPE_CHECKING:
    from cdml_jax.configuration.settings import Settings


def frozen_dataset(
    config: Settings, dataset: Dataset, build_model: Callable[..., Network], *, mesh: Mesh
) -> Dataset:
    """The data set as the frozen front of the configured network sees it; see `FeatureSource`.

    Training and validation images get `model.frozen_views` augmented views besides the evaluation view, so
    that folds can be made of them; test images only the latter. Features are kept in the data folder.

    Raises:
      UserError: `model.frozen` is no part of the network, or no weights are given for it.
    """
    if not config.model.weights:
        raise UserError("model.frozen: a front that is not trained needs weights; set model.weights")
    network = build_model(rngs=nnx.Rngs(0))
    cut = network.cut(config.model.frozen)
    graph, parameters, statistics = split_model(network)
    loaded = load_weights(
        config.model.weights,
        parameters,
        statistics,
        network=config.model.name,
        style=config.model.style,
    )
    parameters, statistics = mesh_lib.put_replicated(mesh, loaded)

    @jax.jit
    def front(parameters: Any, statistics: Any, images: jax.Array) -> jax.Array:
        network = nnx.merge(graph, parameters, statistics)
        features = network.front(normalize_images(images), cut, train=False)
        return jax.lax.with_sharding_constraint(features, mesh_lib.replicated(mesh))

    def embed(images: np.ndarray) -> np.ndarray:
        on_devices = mesh_lib.put_batch(mesh, {"image": images})["image"]
        return np.asarray(front(parameters, statistics, on_devices), np.float32)

    made_by = {
        "cut": cut,
        "image": dataclasses.asdict(config.image),
        "dtype": config.model.dtype,
        "style": config.model.style,
        "weights": _digest((parameters, statistics)),
    }
    data_dir = config.data.data_dir
    splits: dict[str, Source] = {}
    for name, source in dataset.splits.items():
        splits[name] = embed_split(
            source,
            embed,
            folder=(Path(data_dir).expanduser() if data_dir else cache_directory()) / "features",
            made_by=made_by | {"files": _files(source)},
            views=config.model.frozen_views if name in ("train", "validation") else 0,
            batch_size=config.batch_size,
            transform=config.image,
            num_threads=config.data.num_threads,
            shard=mesh_lib.process_shard(mesh),
        )
    return dataclasses.replace(dataset, splits=splits)


def _digest(tree: Any) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _files(source: Source) -> str:
    """Digest of the images' names and, where it is known, of when they were last written."""
    digest = hashlib.sha256()
    for index in range(len(source)):
        stamp = source.stamp(index)[1:] if isinstance(source, Stamped) else ()
        digest.update(repr((source.name(index), *stamp)).encode())
    return digest.hexdigest()
