"""Steps compiled for TPU slices that are not at hand: memory, cycles, collectives, predicted times.

    python benchmarks/tpu_steps.py --json=FILE [--cases=gate | small | classes | large] [NAME ...]

Needs libtpu (the extra `tpu`), not a TPU. Without names, what the file lacks is compiled; with names, those
cases again. `gate` cases take ten seconds of processor time each, `small` ones half a minute (progressive
ones up to five minutes), `large` ones three to six minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX looks for a TPU, which libtpu would make it do

import jax
from side_by_side import keep
from step_overhead import plain_step
from tpu_reference import CLASSES, SIDE, reference

from cdml_jax.configuration.load import load_arguments
from cdml_jax.configuration.settings import Settings
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.methods import METHODS
from cdml_jax.models import spec_of
from cdml_jax.runs.compile.compiled import Compiled, compiled, compiled_step
from cdml_jax.runs.compile.labels import Sizes, program_of, settled
from cdml_jax.runs.compile.record import record
from cdml_jax.runs.compile.slices import parse
from cdml_jax.runs.memory import bytes_per_device
from cdml_jax.system import console
from cdml_jax.training import program as training_program
from cdml_jax.training.optimizer import make_optimizer
from cdml_jax.training.program import Program

# In place of a method's step: that which one would write without this library, and that of Flax's example.
PLAIN, REFERENCE = "plain softmax", "reference"


@dataclasses.dataclass(frozen=True)
class Case:
    """One compilation.

    Attributes:
      topology: the slice.
      method: whose step; or `PLAIN`, or `REFERENCE`, which has its own network.
      config: the configuration, with its changes.
      rows: of a chip.
      classes, images: of the data set.
      forms: `"tpu"`, or `"all"` for the forms that networks have on all other platforms.
    """

    topology: str
    method: str = "cdml"
    config: tuple[str, ...] = ()
    rows: int = 32
    classes: int = 200
    images: int = 5_994
    forms: str = "tpu"


def _network(name: str, *more: str) -> tuple[str, ...]:
    flags = (
        f"model.name={name}",
        "image.image_size=224",
        "model.dtype=bfloat16",
        "model.embedding_size=128",
        *more,
    )
    return ("--config=cub200", *(f"--config.{flag}" for flag in flags))


_RESNET, _VIT = _network("resnet50"), _network("vit_base_patch16")
_LITE = _network("efficientnet_lite0")
_DEMO = ("--config=demo",)
_IMAGENET = {"rows": 128, "classes": CLASSES, "images": 1_281_167}
LARGE = {
    "resnet50, reference": Case("v5e:1x1", REFERENCE, **_IMAGENET),
    "resnet50, 1 chip": Case("v5e:1x1", config=_RESNET, **_IMAGENET),
    "resnet50, 1 chip, plain softmax": Case("v5e:1x1", PLAIN, _RESNET, **_IMAGENET),
    "efficientnet_lite0, 1 chip": Case("v5e:1x1", config=_LITE, **_IMAGENET),
    "efficientnet_lite0, 1 chip, other forms": Case("v5e:1x1", config=_LITE, forms="all", **_IMAGENET),
    "resnet50, 8 chips": Case("v5e:2x4", config=_RESNET, forms="all"),
    "resnet50, 8 chips, plain softmax": Case("v5e:2x4", PLAIN, _RESNET, forms="all"),
    "resnet50, 8 chips, forms for TPUs": Case("v5e:2x4", config=_RESNET),
    "resnet50, 8 chips, plain softmax, forms for TPUs": Case("v5e:2x4", PLAIN, _RESNET),
    "resnet50, 16 chips, batch norm over 8": Case(
        "v5e:4x4", config=(*_RESNET, "--config.model.batch_norm_devices=8")
    ),
    "resnet50, 256 chips": Case("v5e:16x16", config=_RESNET, images=50_000),
    "resnet50, 64 chips": Case("v5e:8x8", config=_RESNET, images=50_000),
    "efficientnet_lite0, 8 chips": Case("v5e:2x4", config=_LITE),
    "efficientnet_lite0, 64 chips": Case("v5e:8x8", config=_LITE, images=50_000),
    "efficientnet_lite0, 256 chips": Case("v5e:16x16", config=_LITE, images=50_000),
    "vit_base_patch16, 8 chips": Case("v5e:2x4", config=_VIT),
    "vit_base_patch16, 64 chips": Case("v5e:8x8", config=_VIT, images=50_000),
    "vit_base_patch16, 256 chips": Case("v5e:16x16", config=_VIT, images=50_000),
}
_SMALL = {"rows": 12, "classes": 48, "images": 960}
SMALL = {
    "dense": Case("v5e:2x2", config=_DEMO, **_SMALL),
    "by_class": Case("v5e:2x2", config=(*_DEMO, "--config.confusion.storage=by_class"), **_SMALL),
    "top": Case("v5e:2x2", config=(*_DEMO, "--config.confusion.storage=top"), **_SMALL),
    "plain softmax": Case("v5e:2x2", PLAIN, _DEMO, **_SMALL),
    "a term": Case("v5e:2x2", "pairwise_confusion", _DEMO, **_SMALL),
    "a part": Case("v5e:2x2", "bilinear", _DEMO, **_SMALL),
    "256 chips": Case("v5e:16x16", config=_DEMO, rows=2, classes=48, images=960),
    "two slices": Case("2*v5e:2x2", config=_DEMO, **_SMALL),
    "v4": Case("v4:2x2x1", config=_DEMO, **_SMALL),
    "v5p": Case("v5p:2x2x1", config=_DEMO, **_SMALL),
    "v6e": Case("v6e:2x2", config=_DEMO, **_SMALL),
}
# The other structures, each of the last method that has it: under CDML's costs where there is such a one.
_COMPILED = {METHODS[case.method].structure for case in SMALL.values() if case.method != PLAIN}
SMALL |= {
    method.structure.name.replace("_", " "): Case("v5e:2x2", name, _DEMO, **_SMALL)
    for name, method in METHODS.items()
    if method.structure not in _COMPILED
}
# The same steps on images of 16 pixels, whose convolutions the compiler does not search long for.
GATE = {
    name: dataclasses.replace(SMALL[name], config=(*SMALL[name].config, "--config.image.image_size=16"))
    for name in ("dense", "by_class", "top", "256 chips", "a term", "a part")
}
# What grows with the classes does so whatever the network: a small one is compiled.
_SPACES = {"images": 1_000_000, "rows": 32}
SPACES = {
    "48 classes": Case("v5e:8x8", config=_DEMO, classes=48, **_SPACES),
    "10,000 classes": Case("v5e:8x8", config=_DEMO, classes=10_000, **_SPACES),
    "100,000 classes": Case("v5e:8x8", config=_DEMO, classes=100_000, **_SPACES),
}
CASES = {"gate": GATE, "small": SMALL, "large": LARGE, "classes": SPACES}


def plain_compiled(program: Program[Settings]) -> Compiled:
    """The plain softmax step of a program's network, optimiser and batch."""
    optimizer = make_optimizer(
        program.config.optimizer, program.schedule, steps_per_epoch=program.steps_per_epoch
    )
    shapes = program.abstract_state()
    state = shapes.parameters, shapes.batch_statistics, shapes.optimizer
    outputs = jax.tree.map(lambda leaf: leaf.sharding, state), mesh_lib.replicated(program.mesh)
    step = jax.jit(
        functools.partial(plain_step, graph=program.graph, optimizer=optimizer),
        donate_argnums=0,
        out_shardings=outputs,
    )
    batch = program.abstract_batch()
    kinds = {
        "parameters": shapes.parameters,
        "statistics": shapes.batch_statistics,
        "optimiser": shapes.optimizer,
    }
    sizes = {name: bytes_per_device(tree) for name, tree in (kinds | {"batch": batch}).items()}
    return compiled(step, (state, batch), sizes)


def _in_forms(forms: str) -> contextlib.AbstractContextManager:
    """Programs whose networks have the forms of TPUs, or those of all platforms."""
    if forms == "tpu":
        return contextlib.nullcontext()
    return mock.patch.object(
        training_program,
        "spec_of",
        lambda model, classes, *, data, platform: spec_of(model, classes, data=data),
    )


def compiled_case(case: Case) -> dict[str, Any]:
    """The record of a case, with what it was compiled for."""
    where = parse(case.topology)
    devices = where.devices()
    if case.method == REFERENCE:
        found = compiled(*reference(devices, case.rows))
        asked = {"network": "resnet50", "image_size": SIDE, "dtype": "bfloat16", "method": REFERENCE}
        return asked | {"classes": case.classes, "rows": case.rows} | record(found, where)
    batch = case.rows * where.chips
    config = load_arguments([*case.config, f"--config.batch_size={batch}"]).settings
    sizes = Sizes(case.classes, max(case.images, batch), "as given")
    method = METHODS["cdml" if case.method == PLAIN else case.method]
    with _in_forms(case.forms):
        program = program_of(settled(config, sizes, devices), method, sizes, devices)
    found = plain_compiled(program) if case.method == PLAIN else compiled_step(program)
    asked = {
        "network": config.model.name,
        "image_size": config.image.image_size,
        "dtype": config.model.dtype,
        "embedding_size": config.model.embedding_size,
        "method": case.method,
        "forms": case.forms,
        "storage": program.storage.name,
        "classes": case.classes,
        "rows": case.rows,
    }
    return asked | record(found, where)


def kept(path: Path | None) -> dict[str, Any]:
    """The records that a file has, by their cases' names."""
    return json.loads(path.read_text())["cases"] if path and path.exists() else {}


def compile_cases(
    cases: Mapping[str, Any],
    names: Sequence[str],
    path: Path | None,
    question: str,
    compile_one: Callable[[str, Any], dict[str, Any]],
) -> None:
    """Compile the cases that are named, or, without names, those that the file lacks; keep each at once.

    Args:
      cases: all that the file may have, by name.
      names: of the cases to compile.
      path: of the file; None for none.
      question: what the file answers.
      compile_one: gives the record of a case, from its name and itself.
    """
    there = kept(path)
    for name, case in cases.items():
        if name in names or (not names and name not in there):
            found = compile_one(name, case)
            there = kept(path) | {name: found}  # another process may have added cases meanwhile
            keep({"question": question, "cases": {n: there[n] for n in cases if n in there}}, path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*")
    parser.add_argument("--cases", choices=tuple(CASES), default="large")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cases = CASES[options.cases]
    unknown = set(options.names) - set(cases)
    if unknown:
        parser.error(f"no case {unknown.pop()!r}; --cases={options.cases} has {', '.join(cases)}")

    def compile_one(name: str, case: Case) -> dict[str, Any]:
        with console.working(f"Compiling {name} for {case.topology}"):
            found = compiled_case(case)
        print(f"{name}: {json.dumps(found)}", flush=True)
        return found

    question = "what the TPU's compiler says of a step; nothing was run"
    compile_cases(cases, options.names, options.json, question, compile_one)


if __name__ == "__main__":
    main()
