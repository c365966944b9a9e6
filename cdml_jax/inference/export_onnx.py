"""A trained run as a model of ONNX, by jax2onnx."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from etils.epath import Path
from jax import export as jax_export

from cdml_jax.inference.plain_network import INPUT, OUTPUTS, converting, plain_network
from cdml_jax.inference.plain_windows import with_plain_windows
from cdml_jax.inference.trained_run import TrainedRun
from cdml_jax.system import files


def write(run: TrainedRun, out: Path) -> tuple[str, ...]:
    """Write the model; returns where it runs.

    Raises:
      UserError: jax2onnx is not installed, or cannot convert the network.
    """
    with converting("ONNX", "onnx", "jax2onnx", "jax2onnx.plugins.plugin_system", "onnx_ir"):
        import jax2onnx

        (batch,) = jax_export.symbolic_shape("batch")
        images: Any = jax.ShapeDtypeStruct((batch, run.image_size, run.image_size, 3), np.uint8)
        # Traced before jax2onnx puts its own operations in the place of Flax's layers: it knows all of lax.
        traced = jax.make_jaxpr(plain_network(run))(images)
        model = jax2onnx.to_onnx(
            with_plain_windows(traced),
            [images],
            model_name="cdml_jax",
            input_names=[INPUT],
            output_names=list(OUTPUTS),
        )
    files.write_bytes(out, model.SerializeToString())
    return ("ONNX Runtime",)
