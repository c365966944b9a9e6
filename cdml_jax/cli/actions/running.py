"""What commands that run something share: what can be refused, a claimed folder, what comes next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from etils.epath import Path

from cdml_jax.configuration import keys, places
from cdml_jax.configuration.checks import check
from cdml_jax.configuration.datasets import load_dataset
from cdml_jax.configuration.fitting import USUAL_BATCH, as_begun, fitted, note_images
from cdml_jax.configuration.settings import Settings, from_plain
from cdml_jax.data.dataset import Dataset
from cdml_jax.distributed import processes
from cdml_jax.distributed.mesh import devices_here, divide_processor, make_mesh
from cdml_jax.errors import UserError
from cdml_jax.methods import Method
from cdml_jax.methods.identity import own_digest
from cdml_jax.methods.structure import PLAIN, Structure
from cdml_jax.runs import class_names, workdir
from cdml_jax.runs.beginning import beginning, refuse_method
from cdml_jax.runs.checkpoint import steps_kept
from cdml_jax.runs.claims import claim, part_of
from cdml_jax.runs.memory import what_runs_where
from cdml_jax.system import console
from cdml_jax.system.compilation_cache import keep_compiled
from cdml_jax.system.files import path_of
from cdml_jax.training.optimizer import idle_freeze
from cdml_jax.training.program import Program

NO_CHANGES: Mapping[str, str] = MappingProxyType({})


def prepare(
    command: str,
    config: Settings,
    folder: Path,
    *splits: str,
    stored: Mapping[str, Any] | None = None,
    methods: Sequence[Method] = (),
) -> Program[Settings]:
    """Everything that can be refused, before anything slow; then the program, and one line about it.

    `splits` are those that must be there; `command` is whose run the folder holds. Where the folder's run is
    only looked at, `stored` is what it holds; else the folder becomes this run's. `methods` are what will be
    trained, for "train" one. Keys that the settings leave open are chosen here: `program.config` has them.
    """
    method = methods[0] if command == "train" and methods else None
    if stored is None:
        config = as_begun(config, workdir.begun_with(folder))
    check(config)
    if stored is None and processes.is_first():
        if command == "train":
            workdir.refuse_run_of_a_table(folder)
        idle = idle_freeze(config.optimizer)
        if idle:
            console.warn(idle)
        workdir.look(folder, command, config, method_digest=own_digest(method) if method else "")
    keep_compiled(config.compilation_cache)
    rows = config.batch_size if config.batch_size > 0 else USUAL_BATCH
    divide_processor(config.mesh.cpu_devices, rows // config.accumulation)
    devices = devices_here()
    if config.batch_size > 0:
        make_mesh(config.batch_size, config.accumulation, data=config.mesh.data, model=config.mesh.model)
    dataset = load_dataset(config)
    for split in splits:
        if split not in dataset.splits:
            others = [name for name in ("validation", "test") if name in dataset.splits]
            if stored is not None and others:
                raise UserError(f"--split: {folder} was trained without {split} images; choose {others[0]}")
            raise UserError(
                f"source: {config.source} has no {split} split, which is needed here; "
                f"name one by data.{split}, or set data.{split}_fraction"
            )
        if split == "test" and command == "reproduce" and dataset.test_class_names is not None:
            raise UserError(
                "data.class_disjoint: no test image is of a class that is trained, so there is no table of "
                "test accuracy; use cdml train, and cdml evaluate --split=test for the embedding"
            )
    if stored is None:
        config = fitted(config, dataset, devices)
        if config.model.weights:
            note_images(config, dataset)
    program = Program(
        config,
        dataset,
        structure=_structure(method, stored),
        fill=beginning(config, dataset.classes),
    )
    if stored is None and not steps_kept(folder):
        program.check_weights()
    for trained in methods:
        refuse_method(trained, program)
    placement = what_runs_where(program)
    if stored is not None:
        workdir.check_images(folder, stored, dataset.fingerprint(), dataset.contents, source=config.source)
        if processes.is_first():
            _keep_names(folder, dataset)
    else:
        claim(command, config, folder, dataset, method)
    sizes = ", ".join(f"{len(source)} {name}" for name, source in dataset.splits.items())
    console.say(
        f"{dataset.name}: {dataset.num_classes} classes, images: {sizes}."
        + ("" if stored is not None else f" {program.total_steps} steps. Writing to {folder}")
    )
    console.detail(placement)
    return program


def _structure(method: Method | None, stored: Mapping[str, Any] | None) -> Structure:
    """Of the method that is trained, or of a run that is looked at: with the part that its network has."""
    if method is not None:
        return method.structure
    part = part_of(stored) if stored is not None else ""
    return Structure(part, part=part) if part else PLAIN


def refuse_trained_on(stored: Mapping[str, Any], folder: Path, split: str) -> None:
    """Refuse the validation split of a run that was trained on it.

    Raises:
      UserError: `stored`, what the folder holds, says so.
    """
    if split == "validation" and stored.get("pooled"):
        raise UserError(
            f"--split: the validation images are among those that {folder} was trained on (reproduce.folds); "
            "choose test"
        )


def settings_for_use(stored: Mapping[str, Any], changes: Mapping[str, str] = NO_CHANGES) -> Settings:
    """The settings of a trained run, without what only its beginning and its epochs needed.

    Args:
      stored: what its folder holds.
      changes: text by dotted keys that say where things are now, such as `source`.

    Raises:
      UserError: its images are not where they were.
    """
    values = keys.overridden(stored["config"], changes)
    place = places.folder_of(values["source"])
    if place and not path_of(place).exists():
        kind = values["source"].partition(":")[0]
        raise UserError(
            f"{values['source']}: there is no such folder; --config.source={kind}:DIR says where its images "
            "are now"
        )
    if not values["model"]["frozen"]:
        values["model"]["weights"] = ""
    values["model"]["batch_norm_devices"] = 0  # of training alone
    if values["confusion"]["source"] != "holdout":
        values["confusion"]["source"] = "train"
    return from_plain(values)


def _keep_names(folder: Path, dataset: Dataset) -> None:
    """Write the classes' names where a run lacks them; one that is only looked at may be read-only."""
    try:
        class_names.write(folder, dataset)
    except UserError as error:
        console.warn(f"the classes' names are not kept: {error}")


def say_next(command: str, folder: Path, more: str = "") -> None:
    """What a person may do now, as the last line."""
    console.say(f"Next: cdml {command} --workdir={shlex.quote(str(folder))}{more}")
