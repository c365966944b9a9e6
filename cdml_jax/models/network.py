"""What all networks are: an entry, a row of blocks, pooling, two heads; it can be cut before any block."""

from __future__ import annotations

from collections.abc import Iterable

import jax
from flax import nnx

from cdml_jax.models.heads import Heads, Outputs


class Network(nnx.Module):
    """Base of the families; they set `blocks` and `heads` and say how to enter and how to pool.

    Attributes:
      blocks: modules called one after another as `block(x, train=…)`.
      heads: classifier and embedding on the pooled features.
      remat: whether a block's activations are computed again for the gradient instead of being kept.
    """

    blocks: nnx.List
    heads: Heads
    remat: bool = False

    def enter(self, images: jax.Array, *, train: bool) -> jax.Array:
        """What the first block takes, from images (batch, height, width, 3) in [-1, 1]."""
        raise NotImplementedError

    def pool(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Features (batch, features) from what the last block gives."""
        raise NotImplementedError

    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        return self.back(self.front(images, 0, train=train), 0, train=train)

    def front(self, images: jax.Array, blocks: int, *, train: bool) -> jax.Array:
        """What block number `blocks` takes: the entry and the blocks before it."""
        return self._through(list(self.blocks)[:blocks], self.enter(images, train=train), train)

    def features(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Pooled features (batch, features), which the heads take."""
        return self.pool(self.front(images, len(self.blocks), train=train), train=train)

    def back(self, x: jax.Array, blocks: int, *, train: bool) -> Outputs:
        """The rest of the network after `front`, from block number `blocks` on."""
        return self.heads(self.pool(self._through(list(self.blocks)[blocks:], x, train), train=train))

    def _through(self, blocks: Iterable[nnx.Module], x: jax.Array, train: bool) -> jax.Array:
        def run(block, x):
            return block(x, train=train)

        for block in blocks:
            x = (nnx.remat(run) if self.remat and train else run)(block, x)
        return x
