"""What all networks are: an entry, a row of blocks, pooling, two heads; it can be cut before any block."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax
from flax import nnx

from cdml_jax.errors import UserError
from cdml_jax.models import maps
from cdml_jax.models.heads import Heads, Outputs
from cdml_jax.models.parts.part import ImagePart, Part
from cdml_jax.models.spec import Spec

if TYPE_CHECKING:
    from cdml_jax.models.weights.conversion import Table
    from cdml_jax.models.weights.imagenet import Package


SIDE = 224  # pixels of the images by which maps are asked for their channels


class Network(nnx.Module):
    """Base of the families, which are constructed as `Family(spec, rngs=…, numbers of its own)`.

    A family sets `blocks` and `heads` (last: the order of the draws is that of the constructor), defines
    `enter` and `pool`, and says which options it obeys. One that computes more between its last block and its
    pooling defines `finish`, one that does not pool a map (batch, height, width, channels) `map_of`.

    Attributes:
      options: those of `spec.OPTIONS` that the family obeys; `build` refuses the others.
      entry_names: first names of the parameters that `enter` uses.
      pool_names: first names of the parameters that `pool` alone uses; a part that takes its place needs none
        of them.
      patch: pixels; sides of images are multiples of it.
      part: what a method puts before the heads, in the place of the pooling or around the whole network;
        None for nothing.
      blocks: modules called one after another as `block(x, train=…)`.
      heads: classifier and embedding on the pooled features.
      dtype: of the activations.
      remat: whether a block's activations are computed again for the gradient instead of being kept.
    """

    options: ClassVar[tuple[str, ...]] = ()
    entry_names: ClassVar[tuple[str, ...]] = ("stem",)
    pool_names: ClassVar[tuple[str, ...]] = ()
    patch: int = 1
    part: Part | None = None
    blocks: nnx.List
    heads: Heads

    def __init__(self, spec: Spec):
        self.dtype, self.remat = spec.dtype, spec.remat

    def enter(self, images: jax.Array, *, train: bool) -> jax.Array:
        """What the first block takes, from images (batch, height, width, 3) in [-1, 1]."""
        raise NotImplementedError

    def finish(self, x: jax.Array, *, train: bool) -> jax.Array:
        """What is pooled, from what the last block gives: by default the same."""
        return x

    def pool(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Features (batch, features) from what `finish` gives."""
        raise NotImplementedError

    def map_of(self, x: jax.Array) -> jax.Array:
        """The last map (batch, height, width, channels), from what `finish` gives."""
        return x

    def feature_maps(self, images: jax.Array) -> maps.FeatureMaps:
        """The map that descriptors take, and a finer one, of images (batch, side, side, 3) in [-1, 1].

        Raises:
          UserError: what is pooled is not a map.
        """
        through = self._through(self.blocks, self.enter(images, train=False), train=False)
        return maps.feature_maps(self, through)

    def before_coarser(self, number: int, x: jax.Array) -> jax.Array:
        """The last map that a block, which takes `x` and makes it coarser, computes before it does."""
        return x

    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        return self.observe_images(images, train=train)[0]

    def seen(self, images: jax.Array, *, train: bool) -> jax.Array:
        """What `map_of` and `pool` take, from images."""
        return self.finish(self.front(images, len(self.blocks), train=train), train=train)

    def front(self, images: jax.Array, blocks: int, *, train: bool) -> jax.Array:
        """What block number `blocks` takes, from images; beyond the last block, the pooled features."""
        x = self._through(list(self.blocks)[:blocks], self.enter(images, train=train), train)[-1]
        return x if blocks <= len(self.blocks) else self.pool(self.finish(x, train=train), train=train)

    def back(self, x: jax.Array, blocks: int, *, train: bool) -> Outputs:
        """The rest of the network after `front`."""
        return self.observe(x, blocks, train=train)[0]

    def observe_images(
        self, images: jax.Array, *, train: bool, taps: Collection[str] = ()
    ) -> tuple[Outputs, dict[str, jax.Array]]:
        """As `observe`, from images, which some parts look at themselves.

        Raises:
          UserError: the map is asked for, and the part looks at none of a whole image.
        """
        if not isinstance(self.part, ImagePart):
            return self.observe(self.front(images, 0, train=train), 0, train=train, taps=taps)
        features, said = self.part.look(self, images, train=train)
        if "map" in taps and "map" not in said:
            raise UserError("a term needs the last map of a whole image, and this part looks at crops alone")
        outputs = self.heads(features)
        return outputs if train else self.part.predicted(outputs, said), said

    def observe(
        self, x: jax.Array, blocks: int, *, train: bool, taps: Collection[str] = ()
    ) -> tuple[Outputs, dict[str, jax.Array]]:
        """As `back`, and what terms read besides: the last map, and what the part says.

        Args:
          x: what `front` gave.
          blocks: the number of blocks in it.
          train: as ever.
          taps: `"map"` for the last map (batch, height, width, channels), as `map_of` has it.

        Raises:
          ValueError: the map is asked for, or a part needs it, where only pooled features are left; or the
            part looks at images.
        """
        if isinstance(self.part, ImagePart):
            raise ValueError("the part looks at images, and there are none behind a front")
        extras: dict[str, jax.Array] = {}
        if blocks > len(self.blocks):
            if "map" in taps or self.part is not None:
                raise ValueError("behind a frozen backbone only pooled features are left, and no map")
            return self.heads(x), extras
        through = self._through(list(self.blocks)[blocks:], x, train)
        x = self.finish(through[-1], train=train)
        if "map" in taps or self.part is not None:
            extras["map"] = self.map_of(x)
        if self.part is None:
            return self.heads(self.pool(x, train=train)), extras
        maps = *self._earlier(through, self.part.stages - 1), extras["map"]
        features, said = self.part(*maps, train=train)
        outputs = self.heads(features)
        return outputs if train else self.part.predicted(outputs, said), extras | said

    def _earlier(self, through: list[jax.Array], number: int) -> list[jax.Array]:
        """So many maps before the last one, each the last of its size, of what the blocks take and give."""
        if not number:
            return []
        ends = [through[k] for k in maps.made_coarser(through)]
        if len(ends) < number:
            raise UserError(
                f"{number + 1} maps of different sizes are needed, and the blocks that are trained give "
                f"{len(ends) + 1}; take another network, or freeze fewer blocks"
            )
        return ends[-number:]

    @property
    def map_channels(self) -> int:
        """Channels of the last map: as many as features, where those are a mean of it."""
        return self.heads.classifier.in_features

    def stage_channels(self, number: int) -> tuple[int, ...]:
        """Channels of the last map and of the last ones that are finer, `number` in all, the last one last.

        Raises:
          UserError: its maps have fewer sizes.
        """
        side = SIDE - SIDE % self.patch

        def maps(network: Network, images: jax.Array) -> list[jax.Array]:
            through = network._through(network.blocks, network.enter(images, train=False), train=False)
            last = network.map_of(network.finish(through[-1], train=False))
            return [*network._earlier(through, number - 1), last]

        images = jax.ShapeDtypeStruct((1, side, side, 3), "float32")
        return tuple(x.shape[-1] for x in nnx.eval_shape(maps, self, images))

    def cut(self, frozen: str) -> int:
        """Number of blocks in front of a cut: all and the pooling for `"backbone"`, else the number given.

        Raises:
          UserError: neither `"backbone"` nor a number of blocks that the network has.
        """
        if frozen == "backbone":
            return len(self.blocks) + 1
        if not frozen.isdecimal() or int(frozen) > len(self.blocks):
            raise UserError(
                f"model.frozen: {frozen!r} is neither backbone nor a number of blocks "
                f"up to {len(self.blocks)}"
            )
        return int(frozen)

    def front_names(self, blocks: int) -> tuple[str, ...]:
        """Beginnings of the names of the parameters that `front` uses and `back` does not."""
        if blocks > len(self.blocks):
            own = nnx.as_pure(nnx.state(self, nnx.Param))
            return tuple(name for name in own if name not in ("heads", "part"))
        return (*self.entry_names, *(f"blocks.{k}" for k in range(blocks)))

    def _through(self, blocks: Iterable[nnx.Module], x: jax.Array, train: bool) -> list[jax.Array]:
        """What each block takes, and at the end what the last one gives."""

        def run(block, x):
            return block(x, train=train)

        through = [x]
        for block in blocks:
            step: Callable[..., jax.Array] = nnx.remat(run) if self.remat and train else run
            through.append(step(block, through[-1]))
        return through


@dataclasses.dataclass(frozen=True)
class Variant:
    """A network that is built by its name, as a line of a family's `NETWORKS`.

    Attributes:
      family: its class.
      numbers: what the constructor takes besides a `Spec` and keys.
      tables: by source, the names that other libraries give to its arrays; by default none are known.
      imagenet: where `model.weights=imagenet` finds them: a package, `hf:…`, or what a person is to do.
    """

    family: type[Network]
    numbers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tables: Callable[[], dict[str, Table]] = dict
    imagenet: Package | str = "set model.weights=FILE"
