"""A trained run as a SavedModel of TensorFlow or a model of LiteRT, by jax2tf."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path as LocalPath
from typing import Any

from etils.epath import Path

from cdml_jax.errors import UserError
from cdml_jax.inference.plain_network import INPUT, OUTPUTS, converting, plain_network
from cdml_jax.inference.trained_run import TrainedRun
from cdml_jax.system import buckets, files
from cdml_jax.system.buckets import in_bucket

_MODEL = "saved_model.pb"


def write_saved_model(run: TrainedRun, out: Path) -> tuple[str, ...]:
    """Write the folder of a SavedModel, whole or not at all; returns where it runs.

    Raises:
      UserError: TensorFlow is not installed or cannot convert the network, or something else lies there.
    """
    if out.exists() and not (out / _MODEL).exists():
        raise UserError(f"--out: {out} is there and is not a SavedModel; choose another name")
    if in_bucket(out):
        with files.writing(out), tempfile.TemporaryDirectory() as made:
            _save(run, LocalPath(made) / "model")
            buckets.upload_folder(LocalPath(made) / "model", out, last=_MODEL)
        return ("TensorFlow",)
    folder = LocalPath(files.absolute(out))
    with files.writing(out), tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{out.name}.") as made:
        _save(run, LocalPath(made) / "model")
        if folder.exists():
            shutil.rmtree(folder)
        (LocalPath(made) / "model").rename(folder)
    return ("TensorFlow",)


def write_lite(run: TrainedRun, out: Path) -> tuple[str, ...]:
    """Write a model of LiteRT, once TensorFlow Lite; returns where it runs.

    Raises:
      UserError: TensorFlow is not installed, or cannot convert the network.
    """
    with tempfile.TemporaryDirectory() as folder:
        _save(run, LocalPath(folder))
        with _converting("LiteRT"):
            import tensorflow as tf

            content = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    files.write_bytes(out, content)
    return ("LiteRT",)


def _converting(format_name: str) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what it says of the machine, before its import
    return converting(format_name, "tensorflow", "absl", "tensorflow")


def _save(run: TrainedRun, folder: LocalPath) -> None:
    with _converting("TensorFlow"):
        import tensorflow as tf
        from jax.experimental import jax2tf

        side = run.image_size
        network = jax2tf.convert(plain_network(run), polymorphic_shapes=["(batch, ...)"], with_gradient=False)
        module = tf.Module()
        module.network = tf.function(
            lambda images: dict(zip(OUTPUTS, network(images))),
            autograph=False,
            input_signature=[tf.TensorSpec([None, side, side, 3], tf.uint8, name=INPUT)],
        )
        tf.saved_model.save(module, str(folder), signatures={"serving_default": module.network})
