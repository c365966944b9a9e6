"""What every network is built from, and the conventions that weights do not say."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import jax.numpy as jnp

from cdml_jax.errors import UserError

if TYPE_CHECKING:
    from cdml_jax.models.settings import ModelSettings

EMBEDDINGS = ("projection", "features")
CLASSIFIERS = ("linear", "cosine")
DTYPES = ("float32", "bfloat16", "float64")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation of RGB in [0, 1]
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # leaves [-1, 1] as it is


@dataclasses.dataclass(frozen=True)
class Convention:
    """How one source of weights computes, which the weights themselves do not say.

    Attributes:
      padding: `"symmetric"`, (size - 1) / 2 zeros on both sides as in PyTorch, or `"SAME"` as in TensorFlow.
      epsilon: of batch norm.
      mean, std: of RGB in [0, 1], subtracted and divided by.
    """

    padding: str
    epsilon: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


TORCHVISION = Convention("symmetric", 1e-5, *IMAGENET)
TENSORFLOW = Convention("SAME", 1e-3, *HALF)
STYLES = {"torchvision": TORCHVISION, "tensorflow": TENSORFLOW}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """What the constructors of all networks share; keys of `model`, but for `num_classes` and the last two.

    Attributes:
      num_classes: columns of the classifier.
      embedding_size: length of an embedding; not used with `embedding_from="features"`.
      embedding_from: `"projection"`, a linear layer on the pooled features, or `"features"` themselves.
      classifier: `"linear"`, or `"cosine"`: logits are `cosine_scale` times the cosine of the angle between
        the pooled features and a class's column, so no class gains by the length of either.
      cosine_scale: largest logit of a cosine classifier.
      dtype: of the activations, `"float32"`, `"bfloat16"` or `"float64"`, which needs JAX_ENABLE_X64.
      style: the key of `STYLES` by which padding, epsilon and input are computed; `""` is the network's own.
      freeze_batch_norm: use the running statistics, unchanged, in training too.
      remat: compute a block's activations again in the backward pass; less memory, more time.
      batch_norm_groups: of neighbouring rows whose batch statistics are their own; 1 for the whole batch's.
      platform: of the devices that train it, as JAX names it; `"tpu"` selects forms that are equal but for
        rounding, and that a TPU computes faster.

    Raises:
      UserError: an unknown embedding_from, classifier, dtype or style.

    >>> Spec(num_classes=5, dtype="bfloat16").param_dtype
    dtype('float32')
    """

    num_classes: int
    embedding_size: int = 128
    embedding_from: str = "projection"
    classifier: str = "linear"
    cosine_scale: float = 20.0
    dtype: str = "float32"
    style: str = ""
    freeze_batch_norm: bool = False
    remat: bool = False
    batch_norm_groups: int = 1
    platform: str = ""

    def __post_init__(self) -> None:
        if self.embedding_from not in EMBEDDINGS:
            raise UserError(
                f"model.embedding_from: {self.embedding_from!r} is unknown; choose {' or '.join(EMBEDDINGS)}"
            )
        if self.classifier not in CLASSIFIERS:
            raise UserError(
                f"model.classifier: {self.classifier!r} is unknown; choose {' or '.join(CLASSIFIERS)}"
            )
        if not 0 < self.cosine_scale < math.inf:
            raise UserError(f"model.cosine_scale: {self.cosine_scale} must be positive and finite")
        if self.dtype not in DTYPES:
            raise UserError(
                f"model.dtype: {self.dtype!r} is unknown; choose {', '.join(DTYPES[:-1])} or {DTYPES[-1]}"
            )
        if self.style not in ("", *STYLES):
            raise UserError(f"model.style: {self.style!r} is unknown; choose {' or '.join(STYLES)}")

    @property
    def param_dtype(self) -> jnp.dtype:
        """What parameters, statistics, norms and heads are kept in: float32, or float64 for float64."""
        return jnp.promote_types(self.dtype, jnp.float32)


# Fields of `Spec` that a network obeys only if its `options` name them.
OPTIONS = ("style", "freeze_batch_norm", "remat")


def spec_of(
    settings: ModelSettings, num_classes: int, *, data: int | None = None, platform: str = ""
) -> Spec:
    """The network's part of the settings `model`; the other keys there are about training.

    Args:
      settings: has each field of `Spec` but `num_classes`, `batch_norm_groups` and `platform`.
      num_classes: columns of the classifier.
      data: devices that share the rows of a batch, of which `batch_norm_devices` neighbours share batch
        statistics; None for a network that is not trained.
      platform: of those devices; `""` where the network is not trained.

    Raises:
      UserError: `batch_norm_devices` does not divide them.
    """
    groups, together = 1, settings.batch_norm_devices
    if data is not None and together:
        groups, left = divmod(data, together)
        if left:
            raise UserError(
                f"model.batch_norm_devices: {together} does not divide the number of devices of the batch, "
                f"{data}; choose a divisor of that, or 0 for statistics of the whole batch"
            )
    own = ("num_classes", "batch_norm_groups", "platform")
    names = [field.name for field in dataclasses.fields(Spec) if field.name not in own]
    return Spec(
        num_classes=num_classes,
        batch_norm_groups=groups,
        platform=platform,
        **{name: getattr(settings, name) for name in names},
    )
