"""Ideas for a faster step on TPUs, each tried on a piece of a network by the figures of the TPU's compiler.

    python benchmarks/tpu_ideas.py --json=FILE [NAME ...]

Pieces (a stem, a stage, a block; forward and backward, 128 rows of bfloat16 on one chip of v5e) compile in 10
to 40 s of processor time. Needs libtpu, not a TPU. Without names, what the file lacks is compiled.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX looks for a TPU, which libtpu would make it do

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tpu_forms import as_product, by_depth, depthwise, diagonal, in_form, pooled_by_places
from tpu_steps import compile_cases

from cdml_jax.models import convolution, efficientnet_lite, layers, mobilenet_v2, resnet
from cdml_jax.models.layers import ConvNorm
from cdml_jax.models.pixels import normalize_images, scale_input
from cdml_jax.models.spec import TORCHVISION, Spec
from cdml_jax.runs.compile.compiled import compiled
from cdml_jax.runs.compile.record import record
from cdml_jax.runs.compile.slices import parse
from cdml_jax.system import console

ROWS, TOPOLOGY = 128, "v5e:1x1"


class Stem(nnx.Module):
    """ResNet's stem with its pooling, and the product that reads it."""

    def __init__(self, spec: Spec):
        self.stem = ConvNorm(3, 64, 7, stride=2, spec=spec, convention=TORCHVISION, rngs=nnx.Rngs(0))
        self.next = ConvNorm(64, 64, 1, spec=spec, convention=TORCHVISION, rngs=nnx.Rngs(0))

    def __call__(self, images: jax.Array) -> jax.Array:
        x = scale_input(normalize_images(images), TORCHVISION).astype(self.stem.dtype)
        return self.next(self.stem.pooled(x, train=True), train=True)


class Blocks(nnx.Module):
    """Blocks one after another, with their inputs."""

    def __init__(self, blocks: list[nnx.Module], *, remat: bool = False):
        self.blocks, self.remat = nnx.List(blocks), remat

    def __call__(self, x: jax.Array) -> jax.Array:
        def run(block, x):
            return block(x, train=True)

        for block in self.blocks:
            x = (nnx.remat(run) if self.remat else run)(block, x)
        return x


def _stage(spec: Spec) -> Blocks:
    """The first stage of ResNet-50, where most bytes are."""
    conv_norm = functools.partial(ConvNorm, spec=spec, convention=TORCHVISION, rngs=nnx.Rngs(0))
    blocks = [resnet.Block(64 if k == 0 else 256, 64, 1, True, conv_norm) for k in range(3)]
    return Blocks(blocks, remat=spec.remat)


def _inverted(inputs: int, outputs: int, size: int) -> Callable[[Spec], Blocks]:
    def made(spec: Spec) -> Blocks:
        conv_norm = functools.partial(
            ConvNorm,
            spec=spec,
            convention=efficientnet_lite.CONVENTION,
            activation=jax.nn.relu6,
            rngs=nnx.Rngs(0),
        )
        return Blocks([mobilenet_v2.Block(inputs, outputs, 1, 6, conv_norm, size=size)])

    return made


@dataclasses.dataclass(frozen=True)
class Piece:
    """A piece of a network and what it takes.

    Attributes:
      title: for the table.
      made: the module, from a `Spec`.
      takes: shape of what it takes, and its type.
    """

    title: str
    made: Callable[[Spec], nnx.Module]
    takes: tuple[tuple[int, ...], str] = ((ROWS, 56, 56, 64), "bfloat16")


PIECES = {
    "stem": Piece("ResNet's stem", Stem, ((ROWS, 224, 224, 3), "uint8")),
    "stage": Piece("ResNet-50's first stage", _stage),
    "fine": Piece(
        "EfficientNet-Lite0's block, 24 channels, 56 px, 3 x 3",
        _inverted(24, 24, 3),
        ((ROWS, 56, 56, 24), "bfloat16"),
    ),
    "coarse": Piece(
        "EfficientNet-Lite0's block, 80 to 112 channels, 14 px, 5 x 5",
        _inverted(80, 112, 5),
        ((ROWS, 14, 14, 80), "bfloat16"),
    ),
}


@dataclasses.dataclass(frozen=True)
class Trial:
    """A form of a piece.

    Attributes:
      piece: a key of `PIECES`.
      idea: what is changed, for the table; "" for the form on all platforms, with which others are compared.
      expected: what it was expected to do.
      taken: whether the package has it.
      platform: of the `Spec`.
      form: of convolutions.
      patches: what else is replaced, by module and name.
      remat: of the `Spec`.
    """

    piece: str
    idea: str = ""
    expected: str = ""
    taken: bool = False
    platform: str = "tpu"
    form: Callable | None = None
    patches: tuple[tuple[Any, str, Any], ...] = ()
    remat: bool = False


_COVARIANCE = "norms of widening 1 x 1 convolutions from their inputs' covariance (`models/product_norm.py`)"
TRIALS = {
    "stem": Trial("stem", platform=""),
    "stem, pooled first": Trial(
        "stem",
        "maximum before norm and activation (`ConvNorm.pooled`)",
        "two of five passes over the largest map become a quarter",
        taken=True,
    ),
    "stem, by depth": Trial(
        "stem",
        "space to depth: 4 x 4 convolution of 2 x 2 blocks",
        "12 in place of 3 channels fill more of the lanes",
        platform="",
        patches=((layers, "convolution", by_depth),),
    ),
    "stem, pooled by places": Trial(
        "stem",
        "maximum's gradient by comparisons in place of select-and-scatter, besides the maximum first",
        "a fusion that reads and writes less than the scatter",
        patches=((layers, "max_pool", pooled_by_places),),
    ),
    "stage": Trial("stage", platform=""),
    "stage, by covariance": Trial(
        "stage", _COVARIANCE, "5 of 14 passes over the widest maps of each block go", taken=True
    ),
    "stage, remat": Trial(
        "stage",
        "blocks' activations computed again (`model.remat`), besides the covariance",
        "fewer bytes are kept, and fewer are read",
        remat=True,
    ),
    "stage, as products": Trial(
        "stage",
        "1 x 1 convolutions as products of two dimensions",
        "nothing: the compiler has one form for both",
        platform="",
        form=as_product,
    ),
    "fine": Trial("fine", platform=""),
    "fine, by covariance": Trial(
        "fine", _COVARIANCE, "one pass fewer over the widest maps, forward and backward", taken=True
    ),
    "fine, shifted": Trial(
        "fine",
        "depthwise as sums of shifted images, as on CPUs and GPUs, besides the covariance",
        "the compiler fuses them with norm and activation",
        form=depthwise(functools.partial(convolution._shifted, in_pieces=False)),
    ),
    "fine, diagonal": Trial(
        "fine",
        "depthwise as a whole convolution with a diagonal kernel, besides the covariance",
        "the matrix units are idle, and twice as fast as the vector unit at 128 channels",
        form=depthwise(diagonal),
    ),
    "coarse": Trial("coarse", platform=""),
    "coarse, by covariance": Trial("coarse", _COVARIANCE, "as above, less of a smaller map", taken=True),
}


def compiled_trial(trial: Trial) -> dict[str, Any]:
    """The record of a piece in a form."""
    where, piece = parse(TOPOLOGY), PIECES[trial.piece]
    sharding = NamedSharding(Mesh(where.devices(), ("data",)), PartitionSpec())
    spec = Spec(num_classes=2, dtype="bfloat16", platform=trial.platform, remat=trial.remat)

    def shapes(tree):
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
        )

    def step(parameters, statistics, x):
        def loss(parameters, x):
            module = nnx.merge(graph, parameters, statistics, copy=True)
            y = module(x)
            return jnp.square(y.astype(jnp.float32)).mean(), nnx.to_pure_dict(
                nnx.state(module, nnx.BatchStat)
            )

        of = 0 if x.dtype == jnp.uint8 else (0, 1)
        return jax.value_and_grad(loss, of, has_aux=True)(parameters, x)

    takes = jax.ShapeDtypeStruct(*piece.takes)
    with contextlib.ExitStack() as stack:
        for module, name, other in trial.patches:
            stack.enter_context(mock.patch.object(module, name, other))
        stack.enter_context(in_form(trial.form))
        graph, *state = nnx.split(nnx.eval_shape(lambda: piece.made(spec)), nnx.Param, ...)
        parameters, statistics = (nnx.to_pure_dict(part) for part in state)
        found = compiled(jax.jit(step), shapes((parameters, statistics, takes)), {})
    return record(found, where)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    unknown = set(options.names) - set(TRIALS)
    if unknown:
        parser.error(f"no trial {unknown.pop()!r}; there are {', '.join(TRIALS)}")

    def compile_one(name: str, trial: Trial) -> dict[str, Any]:
        with console.working(f"Compiling {name}"):
            found = compiled_trial(trial)
        print(f"{name}: {found['compiled']['cycles'] / 1e6:.3f} M cycles", flush=True)
        said = {
            "piece": PIECES[trial.piece].title,
            "idea": trial.idea,
            "expected": trial.expected,
            "taken": trial.taken,
        }
        return said | found

    question = "what an idea does to a piece of a step by the TPU compiler's figures; nothing was run"
    compile_cases(TRIALS, options.names, options.json, question, compile_one)


if __name__ == "__main__":
    main()
