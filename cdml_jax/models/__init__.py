"""Networks that give logits and an embedding: one file a family, built by name."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from cdml_jax.errors import UserError
from cdml_jax.models import efficientnet_lite, googlenet, mobilenet_v2, resnet, small_resnet, vgg, vit
from cdml_jax.models.heads import Heads, Outputs
from cdml_jax.models.layers import BatchNorm
from cdml_jax.models.network import Network, Variant
from cdml_jax.models.parts import PARTS, ImagePart, apart_of, rates_of
from cdml_jax.models.spec import OPTIONS, STYLES, Spec, spec_of

_FAMILIES = (small_resnet, mobilenet_v2, efficientnet_lite, resnet, googlenet, vgg, vit)
NETWORKS: dict[str, Variant] = {
    name: variant for family in _FAMILIES for name, variant in family.NETWORKS.items()
}

__all__ = [
    "NETWORKS",
    "STYLES",
    "Network",
    "Outputs",
    "Spec",
    "Variant",
    "apart_of",
    "build",
    "rates_of",
    "spec_of",
]


def build(
    name: str, spec: Spec, *, rngs: nnx.Rngs, part: str = "", families: tuple[int, ...] | None = None
) -> Network:
    """Network `name` with a classifier of `spec.num_classes` and an embedding of `spec.embedding_size`.

    Calling it on images (batch, height, width, 3), float, in [-1, 1], gives `Outputs`.

    Args:
      name: a key of `NETWORKS`.
      spec: what all networks share.
      rngs: keys of the initial parameters.
      part: a key of `PARTS`, what is put between the last map and the heads; "" for nothing. It is drawn
        after everything else, so all parameters outside it, but for heads of another size, are those
        without it; those that the pooling alone uses go, but where the part pools too.
      families: of each class, for a part that needs them.

    Raises:
      UserError: an unknown name, an option that the network lacks, groups without a batch norm, or a part
        that cannot be had.

    >>> model = build("small_resnet", Spec(num_classes=5, embedding_size=8), rngs=nnx.Rngs(0))
    >>> logits, embeddings = model(jnp.zeros((2, 48, 48, 3)), train=False)
    >>> logits.shape, embeddings.shape
    ((2, 5), (2, 8))
    """
    if name not in NETWORKS:
        raise UserError(f"model.name: {name!r} is unknown; choose one of {', '.join(sorted(NETWORKS))}")
    variant = NETWORKS[name]
    for option in OPTIONS:
        if getattr(spec, option) and option not in variant.family.options:
            raise UserError(f"model.{option}: the network {name} has no such option; leave it unset")
    family: Callable[..., Network] = variant.family
    model = family(spec, rngs=rngs, **variant.numbers)
    if part:
        model.part = PARTS[part](model, families, spec, rngs=rngs)
        if not isinstance(model.part, ImagePart):
            for own in model.pool_names:
                delattr(model, own)
        if model.part.features != model.heads.classifier.in_features:
            model.heads = Heads(model.part.features, spec, rngs=rngs)
    if spec.batch_norm_groups > 1 and not any(isinstance(m, BatchNorm) for _, m in nnx.iter_graph(model)):
        raise UserError(f"model.batch_norm_devices: the network {name} has no batch norm; leave it at 0")
    if spec.dtype == "float64":  # Flax keeps running statistics in float32 whatever `param_dtype` is
        statistics = nnx.as_pure(nnx.state(model, nnx.BatchStat))
        nnx.update(model, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), statistics))
    return model
