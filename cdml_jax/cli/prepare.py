"""`cdml prepare`: what a data set has and lacks, and its array_record files."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cdml_jax.cli import arguments

if TYPE_CHECKING:
    from cdml_jax.data.prepare import Trial

_TRIAL = "own_images"  # the configuration by which one's own images are divided on trial
TEXT = "check a data set, count it, say what is missing and where to get it; write it for clusters"


def add(commands: argparse._SubParsersAction) -> None:
    """Add its flags."""
    parser = arguments.add(commands, "prepare", TEXT)
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="cub200:DIR or another published set (cub200 alone prints where to get it), folder:DIR, "
        "list:DIR, array_record:DIR, tfds:NAME, synthetic_birds/CONFIG",
    )
    parser.add_argument("--out", type=arguments.path, metavar="DIR", help="write array_record files there")
    parser.add_argument("--classes", action="store_true", help="list every class")
    parser.add_argument(
        "--report",
        type=arguments.path,
        metavar="FILE",
        help="write all that is wrong, left out or worth a look there, a line each",
    )
    parser.add_argument("--no-images", action="store_true", help="do not decode the images")
    parser.add_argument("--data-dir", default="", metavar="DIR", help="as --config.data.data_dir")


def run(options: argparse.Namespace) -> int:
    """Check the data set; returns the exit status."""
    arguments.refuse("prepare", options.rest)
    from cdml_jax.data.prepare import prepare
    from cdml_jax.data.sources import OWN  # here: the answers above need no data set

    prepare(
        options.source,
        out=options.out,
        images=not options.no_images,
        classes=options.classes,
        data_dir=options.data_dir,
        trial=_trial() if options.source.startswith(tuple(f"{kind}:" for kind in OWN)) else None,
        report=options.report,
    )
    return 0


def _trial() -> Trial:
    from cdml_jax.configuration.load import load
    from cdml_jax.data.prepare import Trial

    own = load(_TRIAL).settings
    shares = {split: getattr(own.data, f"{split}_fraction") for split in ("test", "validation", "holdout")}
    return Trial(_TRIAL, shares)
