"""Heads on the last three stages of a network, and one on all of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from cdml_jax.errors import UserError
from cdml_jax.models.heads import Outputs
from cdml_jax.models.layers import ConvNorm, batch_norm
from cdml_jax.models.parts.part import Part
from cdml_jax.models.spec import TORCHVISION, Spec

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from cdml_jax.models.network import Network


class ProgressiveStages(Part):
    r"""Of three stages the maximum over a map of their own, and a classifier on each and on all.

    .. math:: v_l = \max_p \, (\mathrm{conv}_{3 \times 3} \circ \mathrm{conv}_{1 \times 1})(x_l), \quad
              l = 1, 2, 3

    Each convolution has batch norm and ReLU. Each classifier is batch norm, a dense layer, batch norm, ELU
    and a linear layer; that on (v_1, v_2, v_3) is the network's. The four classifiers' logits are added up
    for a prediction. The widths are a quarter of the last map's channels after the 1 x 1 convolution, half
    of them after the 3 x 3 one and a quarter in the dense layers **(ours)**: of ResNet-50 these are the
    published 512, 1,024 and 512.

    Args:
      network: has the three stages.
      families: not used.
      spec: of the network.
      rngs: keys of the initial parameters.

    Raises:
      UserError: its maps have fewer than three sizes.

    Source: Du et al., ECCV 2020.
    """

    stages = 3
    widths: ClassVar[tuple[int, int, int] | None] = None  # by the network

    def __init__(self, network: Network, families: tuple[int, ...] | None, spec: Spec, *, rngs: nnx.Rngs):
        super().__init__(network, families, spec, rngs=rngs)
        spec = dataclasses.replace(spec, freeze_batch_norm=False)  # these have no statistics to keep
        channels = network.stage_channels(self.stages)
        quarter = max(1, channels[-1] // 4)
        first, second, self.features = self.widths or (quarter, 2 * quarter, quarter)

        def conv_norm(inputs: int, outputs: int, size: int) -> ConvNorm:
            return ConvNorm(inputs, outputs, size, spec=spec, convention=TORCHVISION, rngs=rngs)

        self.first = nnx.List([conv_norm(inputs, first, 1) for inputs in channels])
        self.second = nnx.List([conv_norm(first, second, 3) for _ in channels])
        self.dense = nnx.List([Dense(second, self.features, spec, rngs=rngs) for _ in channels])
        self.classifiers = nnx.List(
            [nnx.Linear(self.features, spec.num_classes, param_dtype=self.dtype, rngs=rngs) for _ in channels]
        )
        self.all = Dense(second * len(channels), self.features, spec, rngs=rngs)

    def __call__(self, *maps: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Features of all stages, and `stage1_logits` to `stage3_logits` (batch, classes).

        Raises:
          UserError: the maps are of other stages, as of an image that is too small to be halved so often.
        """
        wanted = [first.conv.kernel.shape[-2] for first in self.first]
        if (found := [x.shape[-1] for x in maps]) != wanted:
            raise UserError(
                f"image.image_size: the maps of so small an image change their size elsewhere: {found} "
                f"channels, where larger ones give {wanted}; take larger images"
            )
        pooled = []
        for x, first, second in zip(maps, self.first, self.second):
            x = second(first(x, train=train), train=train)
            pooled.append(largest(x).astype(self.dtype))
        stages = zip(pooled, self.dense, self.classifiers)
        logits = [classifier(dense(v, train=train)) for v, dense, classifier in stages]
        said = {f"stage{place}_logits": values for place, values in enumerate(logits, 1)}
        return self.all(jnp.concatenate(pooled, axis=1), train=train), said

    def predicted(self, outputs: Outputs, said: dict[str, jax.Array]) -> Outputs:
        """The sum of all classifiers' logits; the embedding is that of all stages."""
        return outputs._replace(logits=outputs.logits + sum(said.values()))


def largest(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch channels"]:
    """Maximum over the positions; its gradient goes to the first of them.

    By its place: the gradient of `max` compares again, and XLA may have rounded the map otherwise by then.

    >>> jax.grad(lambda x: largest(x).sum())(jnp.array([[[[1.0]], [[3.0]], [[3.0]]]])).ravel().tolist()
    [0.0, 1.0, 0.0]
    """
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    place = jnp.argmax(jax.lax.stop_gradient(flat), axis=1, keepdims=True)
    return jnp.take_along_axis(flat, place, axis=1)[:, 0]


class PublishedStages(ProgressiveStages):
    """The same at the published widths, whatever the network's."""

    widths = (512, 1024, 512)


class Dense(nnx.Module):
    """Batch norm, a dense layer, batch norm, ELU."""

    def __init__(self, inputs: int, outputs: int, spec: Spec, *, rngs: nnx.Rngs):
        self.before = batch_norm(inputs, epsilon=TORCHVISION.epsilon, spec=spec, rngs=rngs)
        self.linear = nnx.Linear(inputs, outputs, param_dtype=spec.param_dtype, rngs=rngs)
        self.after = batch_norm(outputs, epsilon=TORCHVISION.epsilon, spec=spec, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = self.linear(self.before(x, use_running_average=not train))
        return jax.nn.elu(self.after(x, use_running_average=not train))
