"""Networks that give logits and an embedding: one file a family, built by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from cdml_jax.errors import UserError
from cdml_jax.models import googlenet, mobilenet_v2, resnet, vgg, vit
from cdml_jax.models.heads import Outputs
from cdml_jax.models.layers import STYLES
from cdml_jax.models.network import Network
from cdml_jax.models.small_resnet import SmallResNet
from cdml_jax.models.weights.conversion import Table

_DINOV2: dict[str, Any] = {"patch": 14, "grid": 37, "layer_scale": 1e-5, "style": "torchvision"}
_PATCH16: dict[str, Any] = {"patch": 16, "grid": 14, "layer_scale": 0.0, "style": "tensorflow"}

FAMILIES: dict[str, Callable[..., Network]] = {
    "small_resnet": SmallResNet,
    "mobilenet_v2": mobilenet_v2.MobileNetV2,
    **{f"resnet{depth}": functools.partial(resnet.ResNet, depth=depth) for depth in resnet.DEPTHS},
    "googlenet": googlenet.GoogLeNet,
    **{f"vgg{depth}_bn": functools.partial(vgg.VGG, depth=depth) for depth in vgg.DEPTHS},
    "vit_small_patch14_dinov2": functools.partial(vit.VisionTransformer, width=384, **_DINOV2),
    "vit_base_patch14_dinov2": functools.partial(vit.VisionTransformer, width=768, **_DINOV2),
    "vit_small_patch16": functools.partial(vit.VisionTransformer, width=384, **_PATCH16),
    "vit_base_patch16": functools.partial(vit.VisionTransformer, width=768, **_PATCH16),
}
# Other libraries' names of a network's arrays, by source.
TABLES: dict[str, Callable[[], dict[str, Table]]] = {
    "mobilenet_v2": mobilenet_v2.tables,
    **{f"resnet{depth}": functools.partial(resnet.tables, depth) for depth in resnet.DEPTHS},
    "googlenet": googlenet.tables,
    **{f"vgg{depth}_bn": functools.partial(vgg.tables, depth) for depth in vgg.DEPTHS},
    "vit_small_patch14_dinov2": functools.partial(vit.tables, layer_scale=True),
    "vit_base_patch14_dinov2": functools.partial(vit.tables, layer_scale=True),
    "vit_small_patch16": functools.partial(vit.tables, layer_scale=False),
    "vit_base_patch16": functools.partial(vit.tables, layer_scale=False),
}

__all__ = ["FAMILIES", "STYLES", "TABLES", "Outputs", "build"]


def build(
    name: str,
    *,
    num_classes: int,
    embedding_size: int = 128,
    embedding_from: str = "projection",
    dtype: str = "float32",
    style: str = "",
    freeze_batch_norm: bool = False,
    remat: bool = False,
    rngs: nnx.Rngs,
) -> Network:
    """Network `name` with a classifier of `num_classes` and an embedding of `embedding_size`.

    Calling it on images (batch, height, width, 3), float, in [-1, 1], gives `Outputs`.

    Args:
      name: a key of `FAMILIES`.
      num_classes: columns of the classifier.
      embedding_size: length of an embedding; not used with `embedding_from="features"`.
      embedding_from: `"projection"`, a linear layer on the pooled features, or `"features"` themselves.
      dtype: of the activations, `"float32"`, `"bfloat16"` or `"float64"`, which needs JAX_ENABLE_X64;
        parameters and statistics are float64 for float64, else float32.
      style: by whose conventions of padding, epsilon and input the network computes, `"torchvision"` or
        `"tensorflow"`; `""` is the network's own.
      freeze_batch_norm: use the running statistics, unchanged, in training too.
      remat: compute a block's activations again in the backward pass; less memory, more time.
      rngs: keys of the initial parameters.

    Raises:
      UserError: an unknown name, embedding_from, dtype or style, or an option that the network lacks.
    """
    if name not in FAMILIES:
        raise UserError(f"model.name: {name!r} is unknown; choose one of {', '.join(sorted(FAMILIES))}")
    if embedding_from not in ("projection", "features"):
        raise UserError(f"model.embedding_from: {embedding_from!r} is unknown; choose projection or features")
    if dtype not in ("float32", "bfloat16", "float64"):
        raise UserError(f"model.dtype: {dtype!r} is unknown; choose float32, bfloat16 or float64")
    if style not in ("", *STYLES):
        raise UserError(f"model.style: {style!r} is unknown; choose {' or '.join(STYLES)}")
    asked = {"style": style, "freeze_batch_norm": freeze_batch_norm, "remat": remat}
    options: dict[str, Any] = {key: value for key, value in asked.items() if value}
    family = FAMILIES[name]
    takes = inspect.signature(getattr(family, "func", family).__init__).parameters  # func: of a partial
    for key in options.keys() - takes.keys():
        raise UserError(f"model.{key}: the network {name} has no such option; leave it unset")
    model = family(
        num_classes=num_classes,
        embedding_size=embedding_size,
        embedding_from=embedding_from,
        dtype=jnp.dtype(dtype),
        rngs=rngs,
        **options,
    )
    if dtype == "float64":  # Flax keeps running statistics in float32 whatever it is told
        statistics = nnx.as_pure(nnx.state(model, nnx.BatchStat))
        nnx.update(model, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), statistics))
    return model
