"""Cost-sensitive deep metric learning for fine-grained image classification, in JAX.

The objective, the confusion statistics and the sampling need jax and numpy alone; training, data and
reporting come with the extras `train` and `report`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jax

    # `as` says to type checkers that the name is public.
    from cdml_jax import confusion as confusion
    from cdml_jax import data as data
    from cdml_jax import losses as losses
    from cdml_jax import methods as methods
    from cdml_jax import regularizers as regularizers
    from cdml_jax import retrieval as retrieval
    from cdml_jax import sampling as sampling
    from cdml_jax.configuration.settings import Settings
    from cdml_jax.data import Dataset
    from cdml_jax.inference.trained_run import TrainedRun
    from cdml_jax.losses import confusion_triplet_loss as confusion_triplet_loss
    from cdml_jax.losses import confusion_weighted_logits as confusion_weighted_logits
    from cdml_jax.losses import masked_mean as masked_mean
    from cdml_jax.losses import squared_distance as squared_distance
    from cdml_jax.losses import triplet_margin_loss as triplet_margin_loss
    from cdml_jax.losses import weighted_softmax_cross_entropy as weighted_softmax_cross_entropy
    from cdml_jax.methods import Method
    from cdml_jax.sampling import Triplets as Triplets
    from cdml_jax.sampling import composition_correction as composition_correction
    from cdml_jax.sampling import expected_class_shares as expected_class_shares
    from cdml_jax.sampling import plan_epoch as plan_epoch
    from cdml_jax.sampling import sample_triplets as sample_triplets

__version__ = "0.1.0"

# Where each name is. Loaded when first asked for: the command line answers a mistake without JAX.
_MODULES = {
    "data": "data",
    "methods": "methods",
    "regularizers": "regularizers",
    "Triplets": "sampling",
    "composition_correction": "sampling",
    "confusion": "confusion",
    "confusion_triplet_loss": "losses",
    "confusion_weighted_logits": "losses",
    "expected_class_shares": "sampling",
    "losses": "losses",
    "masked_mean": "losses",
    "plan_epoch": "sampling",
    "retrieval": "retrieval",
    "sample_triplets": "sampling",
    "sampling": "sampling",
    "squared_distance": "losses",
    "triplet_margin_loss": "losses",
    "weighted_softmax_cross_entropy": "losses",
}
__all__ = [*_MODULES, "load", "settings", "train"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'cdml_jax' has no attribute {name!r}")
    with _extra():
        module = importlib.import_module(f"cdml_jax.{_MODULES[name]}")
    return module if name == _MODULES[name] else getattr(module, name)


@contextlib.contextmanager
def _extra() -> Iterator[None]:
    """Inside it, a package that is not in the base install is named with the extra that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is not installed: pip install 'cdml_jax[train]' brings what training needs",
            name=error.name,
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load(
    workdir: str | os.PathLike, *, devices: Sequence[jax.Device] | None = None, best: bool = False
) -> TrainedRun:
    """The run that `cdml train` left in a workdir, to be called on images; needs the extra `train`.

    Args:
      workdir: its folder. The images that it was trained on need not be there.
      devices: those that share the work; None for all of this process.
      best: whether to take the best epoch by validation in place of the last.

    Raises:
      UserError: it holds no run of `cdml train`, or no checkpoint that can be read.
    """
    with _extra():
        from cdml_jax.inference import trained_run  # here: what it imports is not in the base install

    return trained_run.load(workdir, devices=devices, best=best)


def settings(name: str, /, **changes: Any) -> Settings:
    """A configuration's settings, with some keys changed; needs the extra `train`.

    >>> settings("own_images", epochs=20, **{"optimizer.learning_rate": 0.01}).epochs
    20

    Args:
      name: a configuration that the package ships, or a file with `get_config()`.
      **changes: values by keys, those in groups dotted.

    Raises:
      UserError: there is no such configuration or key, a value of another type or one that cannot work.
    """
    with _extra():
        from cdml_jax.configuration import load, settings  # here, as above

    return settings.changed(load.load(name).settings, changes)


def train(
    settings: Settings,
    dataset: Dataset,
    method: str | Method = "cdml",
    seed: int = 0,
    workdir: str | os.PathLike | None = None,
    quiet: bool = False,
) -> TrainedRun:
    """Train one method under one seed; needs the extra `train`.

    Args:
      settings: such as `settings` gives.
      dataset: a `cdml_jax.data.Dataset`, such as of arrays in memory (`cdml_jax.data.ArraySource`).
      method: the name of one of `cdml_jax.methods.METHODS`, or a `Method` of your own.
      seed: of the initial parameters, the order of the data, the augmentation and the draws.
      workdir: where checkpoints and logs are kept and the same call continues; None keeps nothing.
      quiet: print warnings alone.

    Returns:
      The trained run, as `load` gives it.

    Raises:
      UserError: the data set is not right, settings, data set and method do not go together, the folder
        holds another run, or the loss is not finite.
    """
    with _extra():
        from cdml_jax.inference import training  # here, as above

    return training.train(settings, dataset, method, seed, workdir, quiet)
