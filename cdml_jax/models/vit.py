"""Vision transformers (A. Dosovitskiy et al., ICLR 2021) in timm's form, and DINOv2's with LayerScale.

DINOv2: M. Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", TMLR 2024; without
register tokens. The features are the class token after the last norm.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cdml_jax.errors import UserError
from cdml_jax.models.heads import Heads
from cdml_jax.models.network import Network, Variant
from cdml_jax.models.pixels import scale_input
from cdml_jax.models.spec import STYLES, Spec
from cdml_jax.models.weights.conversion import Table

BLOCKS, HEAD_SIZE, EPSILON = 12, 64, 1e-6


def _norm(width: int, spec: Spec, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # float32 or wider whatever the activations are.
    dtype = spec.param_dtype
    return nnx.LayerNorm(width, epsilon=EPSILON, dtype=dtype, param_dtype=dtype, rngs=rngs)


def _linear(inputs: int, outputs: int, spec: Spec, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(
        inputs,
        outputs,
        kernel_init=nnx.initializers.truncated_normal(0.02),
        dtype=spec.dtype,
        param_dtype=spec.param_dtype,
        rngs=rngs,
    )


class Block(nnx.Module):
    """Attention and a perceptron, each after a norm and around a shortcut, scaled by channel in DINOv2."""

    def __init__(self, width: int, layer_scale: float, spec: Spec, rngs: nnx.Rngs):
        self.dtype, self.num_heads = spec.dtype, width // HEAD_SIZE
        self.norm1, self.norm2 = _norm(width, spec, rngs), _norm(width, spec, rngs)
        self.attention_in = _linear(width, 3 * width, spec, rngs)
        self.attention_out = _linear(width, width, spec, rngs)
        self.dense1 = _linear(width, 4 * width, spec, rngs)
        self.dense2 = _linear(4 * width, width, spec, rngs)
        scale = jnp.full(width, layer_scale, spec.param_dtype)
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
    The style says how the input is scaled, `own_style` unless the spec names another: `"torchvision"` by
    ImageNet's mean and deviation (DINOv2), `"tensorflow"` to [-1, 1] (the ViTs that were trained in JAX).
    """

    options = ("style", "remat")
    entry_names = ("patches", "class_token", "positions")

    def __init__(
        self,
        spec: Spec,
        *,
        width: int,
        patch: int,
        grid: int,
        layer_scale: float,
        own_style: str,
        rngs: nnx.Rngs,
    ):
        super().__init__(spec)
        self.patch, self.grid, self.convention = patch, grid, STYLES[spec.style or own_style]
        self.patches = nnx.Conv(
            3,
            width,
            (patch, patch),
            strides=patch,
            padding="VALID",
            dtype=spec.dtype,
            param_dtype=spec.param_dtype,
            rngs=rngs,
        )
        normal = nnx.initializers.normal(0.02)
        self.class_token = nnx.Param(normal(rngs.params(), (1, 1, width), spec.param_dtype))
        self.positions = nnx.Param(normal(rngs.params(), (1, 1 + grid * grid, width), spec.param_dtype))
        self.blocks = nnx.List([Block(width, layer_scale, spec, rngs) for _ in range(BLOCKS)])
        self.norm = _norm(width, spec, rngs)
        self.heads = Heads(width, spec, rngs=rngs)

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
        # A slice: with a batch of any size `x[:, 0]` is a gather, for which LiteRT has no operation.
        return self.norm(jax.lax.index_in_dim(x, 0, axis=1, keepdims=False))

    def map_of(self, x: jax.Array) -> jax.Array:
        """The patches' tokens, normed as the class token is, where they lie on the square image."""
        side = math.isqrt(x.shape[1] - 1)
        return self.norm(x[:, 1:]).reshape(x.shape[0], side, side, x.shape[2])


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


def fit_positions(theirs: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, str] | None:
    """Position embeddings of another square map on ours, and what was done; None if they are of no such map.

    >>> fit_positions(np.ones((1, 1 + 24 * 24, 2)), (1, 1 + 14 * 14, 2))[1]
    'position embeddings resampled from 24 x 24 to 14 x 14'
    """
    if theirs.ndim != 3 or theirs.shape[::2] != shape[::2] or theirs.shape[1] < 2:
        return None
    side, ours = (math.isqrt(tokens - 1) for tokens in (theirs.shape[1], shape[1]))
    if 1 + side * side != theirs.shape[1]:
        return None
    resampled = resample_positions(jnp.asarray(theirs), side, (ours, ours))
    return np.asarray(resampled), f"position embeddings resampled from {side} x {side} to {ours} x {ours}"


def tables(*, layer_scale: bool) -> dict[str, Table]:
    """Names of timm's `vit_…` (DINOv2's own files share them) and of transformers' `Dinov2Model`."""
    timm = {"patches": "patch_embed.proj", "norm": "norm"}
    transformers: dict[str, str | tuple[str, ...]] = {
        "patches": "embeddings.patch_embeddings.projection",
        "norm": "layernorm",
    }
    timm_arrays = {"class_token": "cls_token", "positions": "pos_embed"}
    arrays = {"class_token": "embeddings.cls_token", "positions": "embeddings.position_embeddings"}
    fitted = {"positions": fit_positions}
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
    # The token that stands for hidden patches in pretraining is not needed, nor is what older files have
    # between the features and the classifier.
    found = {
        "timm": Table(
            timm,
            timm_arrays,
            classifier="head",
            left=("mask_token",),
            head=(r"pre_logits\..*",),
            fitted=fitted,
        )
    }
    if layer_scale:
        found["transformers"] = Table(transformers, arrays, left=(r"embeddings\.mask_token",), fitted=fitted)
    return found


_DINOV2 = {"patch": 14, "grid": 37, "layer_scale": 1e-5, "own_style": "torchvision"}
_PATCH16 = {"patch": 16, "grid": 14, "layer_scale": 0.0, "own_style": "tensorflow"}
NETWORKS = {
    f"vit_{size}_{kind}": Variant(
        VisionTransformer,
        {"width": width, **numbers},
        functools.partial(tables, layer_scale=bool(numbers["layer_scale"])),
        imagenet.format(size=size),
    )
    for kind, numbers, imagenet in (
        ("patch14_dinov2", _DINOV2, "set model.weights=hf:timm/vit_{size}_patch14_dinov2.lvd142m"),
        ("patch16", _PATCH16, "hf:timm/vit_{size}_patch16_224.augreg_in21k_ft_in1k"),
    )
    for size, width in (("small", 384), ("base", 768))
}
