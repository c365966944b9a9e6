"""`cdml export`: the network of a trained run as a file that runs without this package."""

from __future__ import annotations

import argparse

from cdml_jax.cli import arguments
from cdml_jax.cli.images import trained_run
from cdml_jax.system import console, files

TEXT = "write the network for JAX, ONNX, LiteRT or TensorFlow, to run without this package"


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add(commands, "export", TEXT)
    arguments.add_workdir(parser)
    parser.add_argument(
        "--out",
        type=arguments.path,
        metavar="FILE",
        required=True,
        help="ends in .jax, .onnx, .tflite or .savedmodel; FILE.json says what goes in and comes out",
    )


def run(options: argparse.Namespace) -> int:
    """Write the file; returns the exit status."""
    arguments.refuse("export", options.rest)
    trained = trained_run(options.workdir, best=options.best)
    # Here: JAX is loaded after mistakes in flags.
    from cdml_jax.inference.export import beside, export, view_file

    out = options.out
    platforms = export(trained, out)
    parts = [path for path in out.rglob("*") if path.is_file()] if out.is_dir() else [out]
    size = sum(map(files.size, parts)) / 2**20
    console.result(f"{out}: {size:.1f} MiB, runs on {', '.join(platforms)}. Names and sizes: {beside(out)}")
    console.say(f"Next: {view_file(out)} makes a photograph's view; docs/exports.md runs the network on it")
    return 0
