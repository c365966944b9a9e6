"""A trained run as one file that runs without this package, with what its use needs to know in two others."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils.epath import Path
from jax import export as jax_export

from cdml_jax.errors import UserError
from cdml_jax.inference import export_onnx, export_tensorflow, standalone_view
from cdml_jax.inference.plain_network import INPUT, OUTPUTS, tempered
from cdml_jax.inference.trained_run import TrainedRun
from cdml_jax.system import files
from cdml_jax.system.buckets import in_bucket

PLATFORMS = ("cpu", "cuda", "tpu")

_LOGGER = logging.getLogger(__name__)


def export(run: TrainedRun, out: Path) -> tuple[str, ...]:
    """Write the network of a run with its weights, a JSON that describes it, and a program that makes views.

    What is written takes uint8 (batch, image_size, image_size, 3) for any batch from 1 on and gives logits
    (batch, classes) and embeddings (batch, size). The logits of a run that `cdml calibrate` has seen are
    divided by its temperature: their softmax is what `cdml predict` prints. The ending of `out` names the
    format: `.jax` is a `jax.export` artifact, `.onnx` a model of ONNX, `.tflite` one of LiteRT,
    `.savedmodel` a folder with a SavedModel of TensorFlow.

    Args:
      run: as `cdml_jax.load` gives.
      out: the file; the description goes to the same name with `.json` appended, the program to `view_file`.

    Returns:
      The platforms that it runs on.

    Raises:
      UserError: another ending, a library that is not installed, or a file that cannot be written.
    """
    write = _writer(out)
    if not files.has_room_for_files(files.absolute(out).parent):
        raise UserError(f"--out: there is no folder {out.parent}")
    if in_bucket(out):  # the description, written last, is the mark that all of it is there
        beside(out).unlink(missing_ok=True)
    platforms = write(run, out)
    side = run.image_size
    one = jax.ShapeDtypeStruct((1, side, side, 3), np.uint8)
    outputs = jax.eval_shape(run.apply, run.weights.parameters, run.weights.batch_statistics, one)
    about = {
        "format": out.suffix[1:],
        "dataset": run.dataset,
        "class_names": run.class_names,
        "input": {"name": INPUT, "dtype": "uint8", "shape": ["batch", side, side, 3], "channels": "RGB"},
        "view": {
            "image_size": side,
            "short_side": run.transform.short_side,
            "crop": "centre",
            "interpolation": {"smaller": "area", "larger": "linear"},
            "transparency": "over white",
        },
        "outputs": {name: ["batch", output.shape[1]] for name, output in zip(OUTPUTS, outputs)},
        "temperature": run.temperature,
        "platforms": platforms,
    }
    files.write_text(view_file(out), files.path_of(standalone_view.__file__).read_text())
    files.write_json(beside(out), about)
    return platforms


def beside(out: Path) -> Path:
    """Where the description of an exported network goes."""
    return out.with_name(out.name + ".json")


def view_file(out: Path) -> Path:
    """Where the program that makes views goes: a Python module.

    >>> view_file(Path("mine.onnx")).name
    'mine_view.py'
    """
    return out.with_name(f"{out.stem}_view.py")


def _writer(out: Path) -> Callable[[TrainedRun, Path], tuple[str, ...]]:
    """The function that writes the format that an ending names."""
    writers = {
        ".jax": _write_jax,
        ".onnx": export_onnx.write,
        ".tflite": export_tensorflow.write_lite,
        ".savedmodel": export_tensorflow.write_saved_model,
    }
    if out.suffix not in writers:
        raise UserError(
            f"--out: {out.name}: the ending names the format; choose .jax (JAX), .onnx (ONNX), .tflite "
            "(LiteRT) or .savedmodel (TensorFlow)"
        )
    return writers[out.suffix]


def _write_jax(run: TrainedRun, out: Path) -> tuple[str, ...]:
    """For all platforms if the network lowers for all of them, else for the one at hand."""
    (batch,) = jax_export.symbolic_shape("batch")
    images: Any = jax.ShapeDtypeStruct((batch, run.image_size, run.image_size, 3), np.uint8)
    network = functools.partial(run.apply, run.weights.parameters, run.weights.batch_statistics)
    function = jax.jit(functools.partial(tempered, network, run.temperature))
    try:
        exported = jax_export.export(function, platforms=PLATFORMS)(images)
    except Exception as error:  # whatever an operation's lowering raises for a platform that it does not know
        _LOGGER.warning("not exported for all of %s: %s", ", ".join(PLATFORMS), error)
        exported = jax_export.export(function)(images)
    files.write_bytes(out, bytes(exported.serialize()))
    return exported.platforms
