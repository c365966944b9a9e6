"""`cdml prepare`: what a data set has and lacks, and its array_record files."""

from __future__ import annotations

import argparse

from cdml_jax.cli import arguments

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
    parser.add_argument("--no-images", action="store_true", help="do not decode the images")
    parser.add_argument("--data-dir", default="", metavar="DIR", help="as --config.data.data_dir")


def run(options: argparse.Namespace) -> int:
    """Check the data set; returns the exit status."""
    arguments.refuse("prepare", options.rest)
    from cdml_jax.data.prepare import prepare  # here: the answers above need no data set

    prepare(
        options.source,
        out=options.out,
        images=not options.no_images,
        classes=options.classes,
        data_dir=options.data_dir,
    )
    return 0
