"""The front of a network that is not trained: computed once for every image of a data set."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from cdml_jax.data.dataset import Source, stamp_of
from cdml_jax.data.feeds.features import embedded
from cdml_jax.data.feeds.feed import FeatureFeed, Feed, ImageFeed, image_feeds
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.distributed import processes
from cdml_jax.errors import UserError
from cdml_jax.models.network import Network
from cdml_jax.models.pixels import normalize_images
from cdml_jax.system import console
from cdml_jax.system.files import cache_directory, path_of
from cdml_jax.system.trees import digest_of_arrays
from cdml_jax.training.settings import TrainingSettings
from cdml_jax.training.state import split_model


def cut_of(frozen: str, build_model: Callable[..., Network]) -> tuple[int | None, tuple[str, ...]]:
    """Blocks in front of the cut, None where nothing is frozen, and names of the parameters of that front.

    Args:
      frozen: `model.frozen`.
      build_model: makes the network.
    """
    if not frozen:
        return None, ()
    network = nnx.eval_shape(lambda: build_model(rngs=nnx.Rngs(0)))
    cut = network.cut(frozen)
    return cut, network.front_names(cut)


def feeds_of(
    config: TrainingSettings,
    splits: Mapping[str, Source],
    build_model: Callable[..., Network],
    *,
    mesh: Mesh,
    fill: Callable[..., tuple[Any, Any]],
) -> Mapping[str, Feed]:
    """The batches of each split: of its images, or of what the frozen front makes of them.

    Args:
      config: the settings.
      splits: of a data set.
      build_model: makes the network.
      mesh: the devices.
      fill: gives the network's parameters and statistics the values of its weights.
    """
    images = image_feeds(
        splits,
        transform=config.image,
        batch_size=config.batch_size,
        num_threads=config.data.num_threads,
        cache_bytes=config.data.cache_bytes,
        shard=mesh_lib.process_shard(mesh),
    )
    if not config.model.frozen:
        return images
    return frozen_feeds(config, images, build_model, mesh=mesh, fill=fill)


def frozen_feeds(
    config: TrainingSettings,
    images: Mapping[str, ImageFeed],
    build_model: Callable[..., Network],
    *,
    mesh: Mesh,
    fill: Callable[..., tuple[Any, Any]],
) -> dict[str, FeatureFeed]:
    """The splits as the frozen front of the configured network sees them.

    Training and validation images get `model.frozen_views` augmented views besides the evaluation view, so
    that folds can be made of them; test images only the latter. Features are kept in the data folder.

    Raises:
      UserError: `model.frozen` is not a part of the network, or no weights are given for it.
    """
    if not config.model.weights:
        raise UserError("model.frozen: a front that is not trained needs weights; set model.weights")
    network = nnx.eval_shape(lambda: build_model(rngs=nnx.Rngs(0)))
    cut = network.cut(config.model.frozen)
    graph, *shapes = split_model(network)
    parameters, statistics = mesh_lib.put_replicated(mesh, jax.tree.map(_value, fill(*shapes)))

    @jax.jit
    def front(parameters: Any, statistics: Any, images: jax.Array) -> jax.Array:
        network = nnx.merge(graph, parameters, statistics)
        features = network.front(normalize_images(images), cut, train=False)
        return jax.lax.with_sharding_constraint(features, mesh_lib.replicated(mesh))

    # Only the first call compiles, which can take longer than anybody waits in silence.
    compiling = iter([console.working("Compiling the frozen front")])

    def embed(images: np.ndarray) -> np.ndarray:
        on_devices = mesh_lib.put_batch(mesh, {"image": images})["image"]
        with next(compiling, contextlib.nullcontext()):
            return np.asarray(front(parameters, statistics, on_devices), np.float32)

    made_by = {
        "cut": cut,
        "image": dataclasses.asdict(config.image),
        "dtype": config.model.dtype,
        "style": config.model.style,
        "weights": digest_of_arrays((_before_heads(parameters), statistics)),
    }
    if config.data.boxes:
        made_by["boxes"] = hashlib.sha256(path_of(config.data.boxes).read_bytes()).hexdigest()
    data_dir = config.data.data_dir
    folder = (path_of(data_dir) if data_dir else cache_directory()) / "features"
    return {
        split: embedded(
            feed,
            embed,
            folder=folder,
            made_by=made_by | {"files": _files(feed.source)},
            views=config.model.frozen_views if split in ("train", "validation") else 0,
            anywhere=lambda lacks: bool(processes.largest(int(lacks))),
        )
        for split, feed in images.items()
    }


def _value(leaf: Any) -> np.ndarray:
    """The array of a leaf; zeros for shapes that the weights' file left, of heads: no front has them."""
    return np.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else np.asarray(leaf)


def _before_heads(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Without what no front has: another classifier or embedding finds the same features."""
    return {name: tree for name, tree in parameters.items() if name != "heads"}


def _files(source: Source) -> str:
    """Digest of the images' names and of when they were last written, or of their contents."""
    digest = hashlib.sha256()
    for index in console.progressing(range(len(source)), "Looking for changed images", len(source)):
        _, size, changed = stamp_of(source, index)
        digest.update(repr((source.name(index), size, changed)).encode())
        if size < 0:  # images in memory: nothing but their contents tells others from them
            image = source.image(index)
            digest.update(image if isinstance(image, bytes) else np.ascontiguousarray(image))
    return digest.hexdigest()
