"""`cdml compile`: the step of a run compiled for TPU slices that are not there."""

from __future__ import annotations

import argparse
import math
import os

from cdml_jax.cli import arguments
from cdml_jax.errors import UserError

TEXT = (
    "compile the step of cdml train for TPU slices, without a TPU: whether it fits, how long, what it costs"
)


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add_configured(
        commands, "compile", TEXT, more=" --topology=v5e:4x4[,v4:2x2x1 ...] [--price=DOLLARS] [--json]"
    )
    parser.add_argument(
        "--topology",
        required=True,
        metavar="SLICE",
        help="chips along each axis, such as v5e:4x4, v4:2x2x1 or 2*v6e:4x4, or an accelerator type, such as "
        "v5litepod-16; several, separated by commas, give a table",
    )
    parser.add_argument(
        "--price", type=float, metavar="DOLLARS", help="of a chip for an hour; gives the price of the run"
    )
    parser.add_argument(
        "--largest-batch",
        action="store_true",
        help="find the largest batch_size that fits, in at most three compilations of each slice",
    )
    parser.add_argument("--classes", type=int, metavar="N", help="classes, where the images are not here")
    parser.add_argument("--images", type=int, metavar="N", help="training images, where they are not here")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(options: argparse.Namespace) -> int:
    """Compile; returns the exit status."""
    price = options.price
    if price is not None and not (math.isfinite(price) and price >= 0):
        raise UserError(f"--price: must be at least 0, not {price}")
    os.environ["JAX_PLATFORMS"] = (
        "cpu"  # before JAX is loaded, which else begins with a TPU wherever libtpu is
    )
    from cdml_jax.configuration.load import load_arguments

    loaded = load_arguments(options.rest)
    from cdml_jax.cli.actions.compile import Asked, compile_for  # here: mistakes in flags come before JAX
    from cdml_jax.methods import known_methods

    asked = Asked(
        options.topology.split(","),
        price=price,
        largest=options.largest_batch,
        classes=options.classes,
        images=options.images,
        json=options.json,
    )
    compile_for(loaded.settings, known_methods(loaded.methods), asked)
    return 0
