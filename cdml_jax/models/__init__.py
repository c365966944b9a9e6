"""Networks that give logits and an embedding: one file a family, built by name."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from cdml_jax.models.heads import Outputs
from cdml_jax.models.small_resnet import SmallResNet

FAMILIES = {"small_resnet": SmallResNet}

__all__ = ["FAMILIES", "Outputs", "build"]


def build(
    name: str,
    *,
    num_classes: int,
    embedding_size: int = 128,
    embedding_from: str = "projection",
    dtype: str = "float32",
    rngs: nnx.Rngs,
) -> nnx.Module:
    """Network `name` with a classifier of `num_classes` and an embedding of `embedding_size`.

    Calling it on images (batch, height, width, 3), float, in [-1, 1], gives `Outputs`.

    Args:
      name: a key of `FAMILIES`.
      num_classes: columns of the classifier.
      embedding_size: length of an embedding; not used with `embedding_from="features"`.
      embedding_from: `"projection"`, a linear layer on the pooled features, or `"features"` themselves.
      dtype: of the activations, `"float32"`, `"bfloat16"` or `"float64"`, which needs JAX_ENABLE_X64;
        parameters and statistics are float64 for float64, else float32.
      rngs: keys of the initial parameters.

    Raises:
      ValueError: an unknown name, embedding_from or dtype.
    """
    if name not in FAMILIES:
        raise ValueError(f"model.name: {name!r} is unknown; choose one of {', '.join(sorted(FAMILIES))}")
    if embedding_from not in ("projection", "features"):
        raise ValueError(
            f"model.embedding_from: {embedding_from!r} is unknown; choose projection or features"
        )
    if dtype not in ("float32", "bfloat16", "float64"):
        raise ValueError(f"model.dtype: {dtype!r} is unknown; choose float32, bfloat16 or float64")
    model = FAMILIES[name](
        num_classes=num_classes,
        embedding_size=embedding_size,
        embedding_from=embedding_from,
        dtype=jnp.dtype(dtype),
        rngs=rngs,
    )
    if dtype == "float64":  # Flax keeps running statistics in float32 whatever it is told
        statistics = nnx.as_pure(nnx.state(model, nnx.BatchStat))
        nnx.update(model, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), statistics))
    return model
