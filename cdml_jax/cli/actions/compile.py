"""What a run needs of TPU slices, found by compiling its step for them, and what it would take and cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from cdml_jax.cli.actions.compiled_answer import shown, shown_together
from cdml_jax.cli.output import as_json
from cdml_jax.configuration.checks import check
from cdml_jax.configuration.settings import Settings, changed
from cdml_jax.configuration.styles import styled
from cdml_jax.errors import UserError
from cdml_jax.methods import Method, named_method
from cdml_jax.runs.beginning import refuse_method
from cdml_jax.runs.compile.compiled import Compiled, compiled_step
from cdml_jax.runs.compile.feeding import MEASURED_ON, images_a_core
from cdml_jax.runs.compile.labels import Sizes, program_of, settled, sizes_of
from cdml_jax.runs.compile.largest import attempt, largest_batch
from cdml_jax.runs.compile.plan import planned
from cdml_jax.runs.compile.record import record
from cdml_jax.runs.compile.slices import Slice, parse
from cdml_jax.runs.memory import needs
from cdml_jax.runs.profiling import size
from cdml_jax.system import console
from cdml_jax.training.program import Program


@dataclasses.dataclass(frozen=True)
class Asked:
    """The flags of the command.

    Attributes:
      topologies: names of slices.
      price: of a chip-hour; None where none was given.
      largest: whether the largest batch is looked for.
      classes, images: that were given; None for those of the source.
      json: whether JSON is printed in place of text.
    """

    topologies: Sequence[str]
    price: float | None = None
    largest: bool = False
    classes: int | None = None
    images: int | None = None
    json: bool = False


def compile_for(config: Settings, methods: Mapping[str, Method], asked: Asked) -> list[dict[str, Any]]:
    """Compile the step of `config.method` for each slice and print what it needs, takes and costs.

    Args:
      config: the settings.
      methods: by name: the package's, and those of the configuration file.
      asked: the flags.

    Returns:
      A record of each slice.

    Raises:
      UserError: a slice that cannot be compiled for, settings that do not suit it, or a step that fits none.
    """
    method = named_method(config.method, methods)
    slices = [parse(name) for name in asked.topologies]
    config = _styled(config)
    check(config)
    for where in slices:
        where.devices()  # what libtpu does not take is refused before anything slow
    sizes = sizes_of(config, asked.classes, asked.images)
    with console.working("Measuring how fast images are prepared here"):
        source = sizes.dataset.splits["train"] if sizes.dataset else None
        speed = None if config.model.frozen else images_a_core(config.image, source)
    programs = [_program(config, method, sizes, where) for where in slices]  # none compiled: mistakes first
    answers = [
        _answer(program, method, sizes, where, asked, speed) for program, where in zip(programs, slices)
    ]
    if not any(answer["fits"] for answer in answers):
        raise UserError("; ".join(_refusal(answer) for answer in answers))
    if asked.json:
        console.result(as_json({"slices": answers}))
    elif len(answers) == 1:
        console.result(shown(answers[0]))
    else:
        console.result(shown_together(answers))
    return answers


def _styled(config: Settings) -> Settings:
    """With the style that the file of weights names; a line says so where that file is not here."""
    try:
        return styled(config)
    except UserError as error:
        console.warn(f"{error}; compiled as if the weights said nothing of the network")
        return config


def _answer(
    first: Program[Settings], method: Method, sizes: Sizes, where: Slice, asked: Asked, speed: float | None
) -> dict[str, Any]:
    """What is known of one slice, from the program of the batch that is asked for."""
    settings = first.config
    programs = {settings.batch_size: first}

    def compile_batch(batch: int) -> Compiled:
        if batch not in programs:
            programs[batch] = _program(changed(settings, {"batch_size": batch}), method, sizes, where)
        with console.working(f"Compiling {settings.model.name}, batch {batch:,}, for {where.name}"):
            return compiled_step(programs[batch])

    if asked.largest:
        found, data = needs(first), first.mesh.shape["data"]
        tried = largest_batch(
            compile_batch,
            settings.batch_size,
            step=data * settings.accumulation,
            fixed=sum(found.kept.values()),
            usable=where.chip.usable,
            most=sizes.images,
        )
    else:
        tried = [attempt(compile_batch, settings.batch_size)]
    fitting = [one for one in tried if one.compiled is not None and one.needed <= where.chip.usable]
    best = max(fitting, key=lambda one: one.batch, default=max(tried, key=lambda one: one.batch))
    about = {
        "source": settings.source,
        "classes": sizes.classes,
        "images": sizes.images,
        "sizes": sizes.whence,
        "network": settings.model.name,
        "image_size": settings.image.image_size,
        "dtype": settings.model.dtype,
        "method": method.title,
        "input_measured_on": MEASURED_ON if sizes.dataset is None else "the training images",
        "batch_size": best.batch,
        "rows_a_chip": best.batch // first.mesh.shape["data"],
        "tried": [{"batch_size": one.batch, "needed_bytes": round(one.needed)} for one in tried],
        "chip": {name: value for name, value in dataclasses.asdict(where.chip).items() if name in _PUBLISHED},
        "slice": {"hosts": where.hosts, "chips": where.chips, "links": where.links, "number": where.number},
    }
    if best not in fitting or best.compiled is None:
        rows = first.mesh.shape["data"] * settings.accumulation
        lower = int(best.batch * 0.9 * where.chip.usable / best.needed) // rows * rows
        unfit = {
            "topology": where.name,
            "needed_bytes": round(best.needed),
            "usable_bytes": where.chip.usable,
        }
        return about | unfit | {"fits": False, "batch_size_that_may_fit": lower}
    step = programs[best.batch]
    plan = planned(
        step.config, best.compiled, where, speed=speed, steps=step.steps_per_epoch, price=asked.price
    )
    return about | {"fits": True} | record(best.compiled, where) | {"plan": plan}


_PUBLISHED = ("name", "peak", "memory", "bandwidth", "clock", "link", "page")


def _program(config: Settings, method: Method, sizes: Sizes, where: Slice) -> Program[Settings]:
    """The program for a slice, whose name stands before what is wrong with it."""
    try:
        devices = where.devices()
        program = program_of(settled(config, sizes, devices), method, sizes, devices)
        refuse_method(method, program)
    except UserError as error:
        raise UserError(f"{where.name}: {error}") from error
    return program


def _refusal(answer: dict[str, Any]) -> str:
    """Why a step does not fit, with the number, and what to change."""
    lower = answer["batch_size_that_may_fit"]
    smaller = f"--config.batch_size={lower}, " if lower else ""
    return (
        f"{answer['topology']}: does not fit: batch_size={answer['batch_size']} needs "
        f"{size(answer['needed_bytes'])} of each chip, which gives {size(answer['usable_bytes'])}; "
        f"try {smaller}more chips, --config.model.remat=True, --config.mesh.shard_parameters_from=1000000 or "
        "(for many classes) --config.mesh.model=2; --largest-batch finds what fits"
    )
