"""Bilinear pooling: how channels go together, over all positions; whole, or sketched by two hashes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cdml_jax.models.heads import l2_normalize
from cdml_jax.models.layers import conv
from cdml_jax.models.parts.part import Part
from cdml_jax.models.spec import Spec

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

    from cdml_jax.models.network import Network

WIDE, REDUCED = 512, 128  # a map of more channels than WIDE is first taken to REDUCED of them
COMPACT = 8192
EPSILON = 1e-5
AT_ONCE = 2**19  # numbers of an image's outer product that exist at one time
# The classifier's learning rate is then 1 in this library's recipes, as published: features of length 1 move
# the logits by no more than the rate.
RATES: Mapping[str, float] = MappingProxyType({"heads": 20.0})


class Bilinear(Part):
    r"""Signed square root of the mean outer product of a map with itself, of length 1.

    .. math:: S = \tfrac 1 P \sum_p x_p x_p^\top, \qquad
              z = \mathrm{sign}(S) (\sqrt{|S| + \epsilon} - \sqrt\epsilon), \qquad z / \lVert z \rVert

    for a map of P positions with N channels: N² features. A map of more than 512 channels goes through a
    1 x 1 convolution to 128 of them first.

    Args:
      network: has the map.
      families: not used.
      spec: of the network.
      rngs: keys of the initial parameters.

    Source: Lin, RoyChowdhury and Maji, "Bilinear CNN Models for Fine-grained Visual Recognition", ICCV 2015;
    ε and the reduction as in the authors' PyTorch code. That the reduction has no bias is this library's.
    """

    rates: ClassVar[Mapping[str, float]] = RATES

    def __init__(self, network: Network, families: tuple[int, ...] | None, spec: Spec, *, rngs: nnx.Rngs):
        super().__init__(network, families, spec, rngs=rngs)
        channels = network.map_channels
        wide = channels > WIDE
        self.reduction = conv(channels, REDUCED, 1, spec=spec, rngs=rngs) if wide else None
        self.features = (REDUCED if wide else channels) ** 2

    def __call__(self, *maps: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        (x,) = maps
        if self.reduction is not None:
            x = self.reduction(x)
        products = outer_product(_positions(x), self.dtype)
        return l2_normalize(signed_root(products.reshape(x.shape[0], -1))), {}


class CompactBilinear(Part):
    r"""As `Bilinear`, of 8,192 features: the tensor sketch of the outer product.

    It takes any number of channels as they are, and has no parameters. The hashes are the same for all
    seeds, so that what a run has learned can be used where its seed is not known.

    Source: Gao, Beijbom, Zhang and Darrell, "Compact Bilinear Pooling", CVPR 2016.
    """

    rates: ClassVar[Mapping[str, float]] = RATES

    def __init__(self, network: Network, families: tuple[int, ...] | None, spec: Spec, *, rngs: nnx.Rngs):
        super().__init__(network, families, spec, rngs=rngs)
        self.features = COMPACT

    def __call__(self, *maps: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        (x,) = maps
        return l2_normalize(signed_root(tensor_sketch(_positions(x), self.features, self.dtype))), {}


def signed_root(x: Float[Array, "..."], epsilon: float = EPSILON) -> Float[Array, "..."]:
    """sign(x) (√(|x| + ε) − √ε): 0 at 0, where its derivative is taken as 0.

    >>> signed_root(jnp.array([4.0, -9.0, 0.0]), epsilon=0.0).tolist()
    [2.0, -3.0, 0.0]
    """
    return jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + epsilon) - np.sqrt(epsilon))


def outer_product(
    x: Float[Array, "batch positions channels"], dtype: jnp.dtype
) -> Float[Array, "batch channels channels"]:
    """Mean over the positions of x xᵀ, in `dtype`.

    >>> outer_product(jnp.array([[[1.0, 2.0], [3.0, 0.0]]]), jnp.dtype("float32")).tolist()
    [[[5.0, 1.0], [1.0, 2.0]]]
    """
    return jnp.einsum("bpi,bpj->bij", x, x, preferred_element_type=dtype) / x.shape[1]


class Hashes(NamedTuple):
    """Two hashes of channels, each with a sign: place (channels,) int32 and sign (channels,) float32."""

    place1: Int[np.ndarray, " channels"]
    sign1: Float[np.ndarray, " channels"]
    place2: Int[np.ndarray, " channels"]
    sign2: Float[np.ndarray, " channels"]


@functools.cache
def hashes(channels: int, size: int) -> Hashes:
    """Uniform places below `size` and uniform signs, always the same of so many channels."""
    draws = np.random.RandomState(0)  # its stream is frozen, that of newer generators is not

    def places() -> np.ndarray:
        return draws.randint(0, size, channels).astype(np.int32)

    def signs() -> np.ndarray:
        return (2 * draws.randint(0, 2, channels) - 1).astype(np.float32)

    return Hashes(places(), signs(), places(), signs())


def tensor_sketch(
    x: Float[Array, "batch positions channels"], size: int, dtype: jnp.dtype
) -> Float[Array, "batch size"]:
    r"""Mean over the positions of the tensor sketch of x xᵀ, exact and without a Fourier transform.

    .. math:: \phi_k = \tfrac 1 P \sum_{i, j:\ (h_1(i) + h_2(j)) \bmod K = k} s_1(i) s_2(j)
              \sum_p x_{pi} x_{pj}

    The sketch is linear in x xᵀ, so positions are summed first, by a matrix product. Of two vectors,
    E⟨φ(a), φ(b)⟩ = ⟨a, b⟩² over the hashes.

    Args:
      x: the map, its positions in a row.
      size: K.
      dtype: in which sums are taken.

    Source: Pham and Pagh, "Fast and scalable polynomial kernels via explicit feature maps", KDD 2013, as Gao
    et al. use it; the order of the sums is this library's.
    """
    return _sketch(x, hashes(x.shape[-1], size), size, dtype) / x.shape[1]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _sketch(x: jax.Array, drawn: Hashes, size: int, dtype: jnp.dtype) -> jax.Array:
    batch, channels = x.shape[0], x.shape[2]
    table = _places_by_sum(channels, size)
    signed1, signed2 = (x * jnp.asarray(sign, x.dtype) for sign in (drawn.sign1, drawn.sign2))
    rows = _rows_at_once(channels)

    def add(total: jax.Array, part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        first, places = part
        some = jax.lax.dynamic_slice_in_dim(signed1, first, rows, axis=2)
        products = jnp.einsum("bpi,bpj->bij", some, signed2, preferred_element_type=dtype)
        found = products.reshape(batch, -1).at[:, places].get(mode="fill", fill_value=0)
        return total + found.sum(axis=2), None

    start = jnp.zeros_like(x, dtype, shape=(batch, size))
    firsts = jnp.arange(0, channels, rows, dtype=jnp.int32)
    return jax.lax.scan(add, start, (firsts, jnp.asarray(table)))[0]


def _sketch_forward(x, drawn, size, dtype):
    return _sketch(x, drawn, size, dtype), (x, drawn)


def _sketch_backward(size, dtype, residuals, gradient):
    # The gradient of x xᵀ plus its transpose, a symmetric matrix, some of its rows at a time, times x.
    x, (place1, sign1, place2, sign2) = residuals
    batch, positions, channels = x.shape
    rows = _rows_at_once(channels)

    def some_channels(first: jax.Array) -> jax.Array:
        def of(values: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(jnp.asarray(values), first, rows)[:, None]

        def at(places: jax.Array) -> jax.Array:
            return gradient.at[:, places % size].get(mode="promise_in_bounds")

        both = at(of(place1) + place2) * (of(sign1) * sign2).astype(dtype)
        both += at(of(place2) + place1) * (of(sign2) * sign1).astype(dtype)
        return jnp.einsum("bij,bpj->bpi", both.astype(x.dtype), x, preferred_element_type=dtype)

    parts = jax.lax.map(
        some_channels, jnp.arange(0, channels, rows, dtype=jnp.int32)
    )  # (parts, batch, positions, rows)
    to_x = jnp.moveaxis(parts, 0, 2).reshape(batch, positions, channels).astype(x.dtype)
    return to_x, None


_sketch.defvjp(_sketch_forward, _sketch_backward)


def _rows_at_once(channels: int) -> int:
    """Rows of the outer product that exist at one time: all where they are no more than AT_ONCE numbers."""
    most = max(1, AT_ONCE // channels)
    return next(rows for rows in range(min(channels, most), 0, -1) if channels % rows == 0)


@functools.cache
def _places_by_sum(channels: int, size: int) -> Int[np.ndarray, "parts size most"]:
    """Which products, of some rows of the outer product at a time, come to each place of the sketch.

    A gather by it is a sum in a fixed order on every device. Where a place has fewer products than others,
    its row is filled up by a number beyond the last product.
    """
    drawn, rows = hashes(channels, size), _rows_at_once(channels)
    places = (drawn.place1[:, None] + drawn.place2) % size
    parts = []
    for part in places.reshape(channels // rows, -1):
        order = np.argsort(part, kind="stable")
        counts = np.bincount(part, minlength=size)
        column = np.arange(part.size) - np.repeat(np.cumsum(counts) - counts, counts)
        table = np.full((size, counts.max()), part.size, np.int32)
        table[part[order], column] = order
        parts.append(table)
    most = max(table.shape[1] for table in parts)
    beyond = rows * channels
    return np.stack([np.pad(t, ((0, 0), (0, most - t.shape[1])), constant_values=beyond) for t in parts])


def _positions(x: jax.Array) -> jax.Array:
    """(batch, height, width, channels) with the positions in a row."""
    return x.reshape(x.shape[0], -1, x.shape[-1])
