"""A trained run as one file that JAX alone runs, with its classes' names in another."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils.epath import Path
from jax import export as jax_export

from cdml_jax.errors import UserError
from cdml_jax.inference.trained_run import TrainedRun
from cdml_jax.system.files import absolute, write_bytes

PLATFORMS = ("cpu", "cuda", "tpu")

_LOGGER = logging.getLogger(__name__)


def export(run: TrainedRun, out: Path) -> tuple[str, ...]:
    """Write the network of a run as a `jax.export` artifact, and its classes' names as JSON beside it.

    The artifact holds the weights. It takes uint8 (batch, image_size, image_size, 3) for any batch from 1 on
    and gives logits (batch, classes) and embeddings (batch, size). The logits of a run that `cdml calibrate`
    has seen are divided by its temperature: their softmax is what `cdml predict` prints.

    Args:
      run: as `cdml_jax.load` gives.
      out: the file; the names go to the same with `.json` appended.

    Returns:
      The platforms that it runs on.

    Raises:
      UserError: a file cannot be written.
    """
    (batch,) = jax_export.symbolic_shape("batch")
    side = run.image_size
    images: Any = jax.ShapeDtypeStruct((batch, side, side, 3), np.uint8)
    bound = functools.partial(run.apply, run.weights.parameters, run.weights.batch_statistics)
    if run.temperature != 1.0:
        bound = functools.partial(_divided, bound, run.temperature)
    blob, platforms = _serialized(jax.jit(bound), images)
    about = {
        "dataset": run.dataset,
        "class_names": run.class_names,
        "input": f"uint8 (batch, {side}, {side}, 3), RGB",
        "view": f"scaled to a short side of {run.transform.short_side} pixels, centre square of {side}",
        "outputs": ["logits", "embeddings"],
        "temperature": run.temperature,
        "platforms": platforms,
    }
    _write(out, blob)
    _write(beside(out), (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode())
    return platforms


def _divided(apply: Callable[..., Any], temperature: float, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What `apply` gives, its logits divided by a temperature."""
    logits, embeddings = apply(images)
    return logits / temperature, embeddings


def beside(out: Path) -> Path:
    """Where the names of the classes of an artifact go."""
    return out.with_name(out.name + ".json")


def _serialized(function: Any, images: Any) -> tuple[bytes, tuple[str, ...]]:
    """For all platforms if the network lowers for all of them, else for the one at hand."""
    try:
        exported = jax_export.export(function, platforms=PLATFORMS)(images)
    except Exception as error:  # whatever an operation's lowering raises for a platform that it does not know
        _LOGGER.warning("not exported for all of %s: %s", ", ".join(PLATFORMS), error)
        exported = jax_export.export(function)(images)
    return bytes(exported.serialize()), exported.platforms


def _write(path: Path, content: bytes) -> None:
    if not absolute(path).parent.is_dir():
        raise UserError(f"--out: there is no folder {path.parent}")
    write_bytes(path, content)
