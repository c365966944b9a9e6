"""The two heads that every network ends in: a classifier and an L2-normalised embedding."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from cdml_jax.models.spec import Spec


class Outputs(NamedTuple):
    """What every network returns: logits (batch, classes), embeddings (batch, size); float32 or float64."""

    logits: jax.Array
    embeddings: jax.Array


def l2_normalize(values: jax.Array) -> jax.Array:
    """Rows scaled to length 1: e · rsqrt(max(Σ e², 1e-12)), in float32 or wider; its gradient at 0 is finite.

    >>> l2_normalize(jnp.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    return values * jax.lax.rsqrt(jnp.maximum(jnp.sum(values**2, axis=-1, keepdims=True), 1e-12))


class Heads(nnx.Module):
    """Classifier and embedding on pooled features (batch, features), in float32 or wider."""

    def __init__(self, features: int, spec: Spec, *, rngs: nnx.Rngs):
        self.dtype = spec.param_dtype
        linear = functools.partial(nnx.Linear, features, param_dtype=self.dtype, rngs=rngs)
        cosine = spec.classifier == "cosine"
        self.cosine_scale = spec.cosine_scale if cosine else None
        self.classifier = linear(spec.num_classes, use_bias=not cosine)
        self.projection = (
            linear(spec.embedding_size, use_bias=False) if spec.embedding_from == "projection" else None
        )

    def __call__(self, features: jax.Array) -> Outputs:
        features = features.astype(self.dtype)
        embeddings = features if self.projection is None else self.projection(features)
        if self.cosine_scale is None:
            return Outputs(self.classifier(features), l2_normalize(embeddings))
        columns = l2_normalize(self.classifier.kernel[...].T).T
        logits = self.cosine_scale * (l2_normalize(features) @ columns)
        return Outputs(logits, l2_normalize(embeddings))
