"""Compare every export of networks with what the package itself predicts of photographs.

Command:  make exports PHOTOGRAPHS=DIR
          python experiments/check_exports.py --photographs=DIR [--workdir=runs/mine] [--formats=jax,onnx]

Without --workdir the smallest network of each family is compared, with initial parameters and statistics of
the photographs. A line says the largest difference of a probability and of an embedding; status 1 where a
probability differs by more than 1e-4.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from flax import nnx

import cdml_jax
from cdml_jax.cli.images import images_in
from cdml_jax.configuration.settings import changed, defaults
from cdml_jax.confusion import DenseConfusion
from cdml_jax.data import Classes
from cdml_jax.errors import UserError
from cdml_jax.inference.export import export, view_file
from cdml_jax.inference.trained_run import TrainedRun
from cdml_jax.models import build, spec_of
from cdml_jax.runs.trained_weights import Weights
from cdml_jax.training.state import split_model

SMALLEST = {
    "small_resnet": 64,
    "mobilenet_v2": 96,
    "efficientnet_lite0": 96,
    "resnet18": 96,
    "googlenet": 96,
    "vgg16_bn": 64,
    "vit_small_patch16": 96,
    "vit_small_patch14_dinov2": 98,
}
ALLOWED = 1e-4
CLASSES, PHOTOGRAPHS = 20, 16


def untrained(name: str, side: int, photographs: list[Path]) -> TrainedRun:
    """A run of no step whose batch norms know the photographs: what they let through is of the usual size."""
    config = changed(defaults(), {"model.name": name, "image.image_size": side})
    spec = spec_of(config.model, CLASSES)
    graph = nnx.graphdef(nnx.eval_shape(lambda: build(name, spec, rngs=nnx.Rngs(0))))

    def initial(images: jax.Array) -> tuple:
        model = build(name, spec, rngs=nnx.Rngs(0))
        for _, module in nnx.iter_graph(model):
            if hasattr(module, "momentum"):
                module.momentum = 0.0
        model(images / 127.5 - 1, train=True)
        return split_model(model)[1:]

    classes = Classes(tuple(f"class {number}" for number in range(CLASSES)))
    counts = DenseConfusion(np.zeros((CLASSES, CLASSES), np.float32))
    shapes = nnx.eval_shape(lambda: split_model(build(name, spec, rngs=nnx.Rngs(0)))[1:])
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    viewer = TrainedRun(config, "none", classes, graph, Weights(*zeros, counts, 0), jax.devices()[:1])
    images = np.stack([viewer.view(photograph) for photograph in photographs]).astype(np.float32)
    trees = jax.tree.map(np.asarray, jax.jit(initial)(images))
    return TrainedRun(config, "none", classes, graph, Weights(*trees, counts, 0), jax.devices()[:1])


def _jax(file: Path) -> Callable:
    return jax.jit(jax.export.deserialize(bytearray(file.read_bytes())).call)


def _onnx(file: Path) -> Callable:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits", "embeddings"], {"images": images})


def _lite(file: Path) -> Callable:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(file)).get_signature_runner()
    return lambda images: [runner(images=images)[name] for name in ("logits", "embeddings")]


def _saved_model(file: Path) -> Callable:
    import tensorflow as tf

    network = tf.saved_model.load(str(file)).signatures["serving_default"]
    return lambda images: [network(images=tf.constant(images))[name] for name in ("logits", "embeddings")]


READERS = {"jax": _jax, "onnx": _onnx, "tflite": _lite, "savedmodel": _saved_model}


def compared(
    run: TrainedRun, name: str, formats: list[str], photographs: list[Path]
) -> Iterator[tuple[str, str, float, float]]:
    """Name, format, largest differences of a probability and of an embedding, in batches of two sizes."""
    expected = run.embed(photographs)
    for kind in formats:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / f"mine.{kind}"
            export(run, out)
            spec = importlib.util.spec_from_file_location("mine_view", view_file(out))
            views = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(views)
            description = str(out) + ".json"
            images = np.stack([views.view(photograph, description) for photograph in photographs])
            network = READERS[kind](out)
            parts = [network(images[:1]), network(images[1:])]
            logits, embeddings = (np.concatenate([np.asarray(part[k]) for part in parts]) for k in (0, 1))
        found, right = views.probabilities(logits), views.probabilities(expected.logits / run.temperature)
        yield name, kind, np.abs(found - right).max(), np.abs(embeddings - expected.embeddings).max()


def main() -> int:
    """Print a line for each network and format; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photographs", type=Path, required=True, help="a folder")
    parser.add_argument("--workdir", type=Path, help="a trained run in place of the families' networks")
    parser.add_argument("--formats", default=",".join(READERS), help=f"some of {','.join(READERS)}")
    parser.add_argument("--networks", default=",".join(SMALLEST), help=f"some of {','.join(SMALLEST)}")
    options = parser.parse_args()
    files = images_in(options.photographs).files
    photographs = files[:: max(1, len(files) // PHOTOGRAPHS)][:PHOTOGRAPHS]
    if options.workdir:
        runs = iter([(str(options.workdir), cdml_jax.load(options.workdir))])
    else:
        names = options.networks.split(",")
        runs = ((name, untrained(name, SMALLEST[name], photographs)) for name in names)
    largest = 0.0
    print(
        f"{len(photographs)} photographs; largest difference of a probability and of an embedding:",
        flush=True,
    )
    for name, run in runs:
        for _, kind, probability, embedding in compared(run, name, options.formats.split(","), photographs):
            print(f"{name:<26} {kind:<11} {probability:.1e} {embedding:.1e}", flush=True)
            largest = max(largest, probability)
    return int(largest > ALLOWED)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"check_exports: {error}")
