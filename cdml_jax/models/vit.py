"""Vision transformers (A. Dosovitskiy et al., ICLR 2021) in timm's form, and DINOv2's with LayerScale.

DINOv2: M. Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", TMLR 2024; without
register tokens. The features are the class token after the last norm.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from cdml_jax.errors import UserError
from cdml_jax.models.heads import Heads, wide
from cdml_jax.models.layers import STYLES, scale_input
from cdml_jax.models.network import Network
from cdml_jax.models.weights.conversion import Table

BLOCKS, HEAD_SIZE, EPSILON = 12, 64, 1e-6


def _norm(width: int, dtype: Any, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # float32 or wider whatever the activations are.
    return nnx.LayerNorm(width, epsilon=EPSILON, dtype=wide(dtype), param_dtype=wide(dtype), rngs=rngs)


def _linear(inputs: int, outputs: int, dtype: Any, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(
        inputs,
        outputs,
        kernel_init=nnx.initializers.truncated_normal(0.02),
        dtype=dtype,
        param_dtype=wide(dtype),
        rngs=rngs,
    )


class Block(nnx.Module):
    """Attention and a perceptron, each after a norm and around a shortcut, scaled by channel in DINOv2."""

    def __init__(self, width: int, layer_scale: float, dtype: Any, rngs: nnx.Rngs):
        self.dtype, self.num_heads = dtype, width // HEAD_SIZE
        self.norm1, self.norm2 = _norm(width, dtype, rngs), _norm(width, dtype, rngs)
        self.attention_in = _linear(width, 3 * width, dtype, rngs)
        self.attention_out = _linear(width, width, dtype, rngs)
        self.dense1 = _linear(width, 4 * width, dtype, rngs)
        self.dense2 = _linear(4 * width, width, dtype, rngs)
        scale = jnp.full(width, layer_scale, wide(dtype))
        self.scale1 = nnx.Param(scale) if layer_scale else None
        self.scale2 = nnx.Param(scale) if layer_scale else None

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        batch, tokens, width = x.shape
        y = self.attention_in(self.norm1(x).astype(self.dtype))
        query, key, value = jnp.moveaxis(y.reshape(batch, tokens, 3, self.num_heads, HEAD_SIZE), 2, 0)
        y = jax.nn.dot_product_attention(query, key, value).reshape(batch, tokens, width)
        x = x + self._scaled(self.attention_out(y), self.scale1)
        y = jax.nn.gelu(self.dense1(self.norm2(x).astype(self.dtype)), approximate=False)
        return x + self._scaled(self.dense2(y), self.scale2)

    def _scaled(self, y: jax.Array, scale: nnx.Param | None) -> jax.Array:
        return y if scale is None else y * scale[...].astype(self.dtype)


class VisionTransformer(Network):
    """Patches and a class token with position embeddings, 12 blocks, a norm, two heads; `width` features.

    Position embeddings are kept on a `grid` x `grid` map, that of the weights, and resampled to the image's.
    `style` says how the input is scaled: `"torchvision"` by ImageNet's mean and deviation (DINOv2),
    `"tensorflow"` to [-1, 1] (the ViTs that were trained in JAX).
    """

    entry_names = ("patches", "class_token", "positions")
    pool_names = ("norm",)

    def __init__(
        self,
        *,
        width: int,
        patch: int,
        grid: int,
        layer_scale: float,
        num_classes: int,
        embedding_size: int,
        embedding_from: str,
        dtype: Any,
        rngs: nnx.Rngs,
        style: str,
        remat: bool = False,
    ):
        self.patch, self.grid, self.dtype = patch, grid, dtype
        self.convention, self.remat = STYLES[style], remat
        self.patches = nnx.Conv(
            3,
            width,
            (patch, patch),
            strides=patch,
            padding="VALID",
            dtype=dtype,
            param_dtype=wide(dtype),
            rngs=rngs,
        )
        normal = nnx.initializers.normal(0.02)
        self.class_token = nnx.Param(normal(rngs.params(), (1, 1, width), wide(dtype)))
        self.positions = nnx.Param(normal(rngs.params(), (1, 1 + grid * grid, width), wide(dtype)))
        self.blocks = nnx.List([Block(width, layer_scale, dtype, rngs) for _ in range(BLOCKS)])
        self.norm = _norm(width, dtype, rngs)
        self.heads = Heads(
            width,
            num_classes=num_classes,
            embedding_size=embedding_size,
            embedding_from=embedding_from,
            dtype=dtype,
            rngs=rngs,
        )

    def enter(self, images: jax.Array, *, train: bool) -> jax.Array:
        batch, height, width, _ = images.shape
        if height % self.patch or width % self.patch:
            raise UserError(
                f"image.image_size: this network takes sides that are multiples of {self.patch} pixels,"
                f" not {height} x {width}"
            )
        x = self.patches(scale_input(images, self.convention).astype(self.dtype))
        x = x.reshape(batch, -1, x.shape[-1])
        token = jnp.broadcast_to(self.class_token[...].astype(self.dtype), (batch, 1, x.shape[-1]))
        positions = resample_positions(
            self.positions[...], self.grid, (height // self.patch, width // self.patch)
        )
        return jnp.concatenate([token, x], axis=1) + positions.astype(self.dtype)

    def pool(self, x: jax.Array, *, train: bool) -> jax.Array:
        return self.norm(x[:, 0])


def resample_positions(positions: jax.Array, grid: int, shape: tuple[int, int]) -> jax.Array:
    """Position embeddings (1, 1 + grid², width) on another map, by antialiased bicubic interpolation.

    The class token's, which comes first, stays. As timm's `resample_abs_pos_embed`; the same on the same map.

    >>> resample_positions(jnp.ones((1, 1 + 9, 2)), 3, (5, 4)).shape
    (1, 21, 2)
    """
    if shape == (grid, grid):
        return positions
    token, of_map = positions[:, :1], positions[:, 1:]
    width = positions.shape[-1]
    of_map = of_map.reshape(1, grid, grid, width)
    of_map = jax.image.resize(of_map, (1, *shape, width), "cubic", antialias=True)
    return jnp.concatenate([token, of_map.reshape(1, -1, width)], axis=1)


def tables(*, layer_scale: bool) -> dict[str, Table]:
    """Names of timm's `vit_…` (DINOv2's own files share them) and of transformers' `Dinov2Model`."""
    timm = {"patches": "patch_embed.proj", "norm": "norm"}
    transformers: dict[str, str | tuple[str, ...]] = {
        "patches": "embeddings.patch_embeddings.projection",
        "norm": "layernorm",
    }
    timm_arrays = {"class_token": "cls_token", "positions": "pos_embed"}
    arrays = {"class_token": "embeddings.cls_token", "positions": "embeddings.position_embeddings"}
    for number in range(BLOCKS):
        ours, theirs, layer = f"blocks.{number}", f"blocks.{number}", f"encoder.layer.{number}"
        timm |= {
            f"{ours}.norm1": f"{theirs}.norm1",
            f"{ours}.attention_in": f"{theirs}.attn.qkv",
            f"{ours}.attention_out": f"{theirs}.attn.proj",
            f"{ours}.norm2": f"{theirs}.norm2",
            f"{ours}.dense1": f"{theirs}.mlp.fc1",
            f"{ours}.dense2": f"{theirs}.mlp.fc2",
        }
        attention = f"{layer}.attention.attention"
        transformers |= {
            f"{ours}.norm1": f"{layer}.norm1",
            f"{ours}.attention_in": tuple(f"{attention}.{part}" for part in ("query", "key", "value")),
            f"{ours}.attention_out": f"{layer}.attention.output.dense",
            f"{ours}.norm2": f"{layer}.norm2",
            f"{ours}.dense1": f"{layer}.mlp.fc1",
            f"{ours}.dense2": f"{layer}.mlp.fc2",
        }
        if layer_scale:
            for place in (1, 2):
                timm_arrays[f"{ours}.scale{place}"] = f"{theirs}.ls{place}.gamma"
                arrays[f"{ours}.scale{place}"] = f"{layer}.layer_scale{place}.lambda1"
    found = {"timm": Table(timm, timm_arrays, classifier="head", left=("mask_token",))}
    if layer_scale:  # the token that stands for hidden patches in pretraining is not needed
        found["transformers"] = Table(transformers, arrays, left=(r"embeddings\.mask_token",))
    return found
