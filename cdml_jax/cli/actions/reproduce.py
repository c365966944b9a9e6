"""The table: every method under every seed, and the report."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from etils.epath import Path

from cdml_jax.cli.actions.answers import costs_of
from cdml_jax.cli.actions.cards import write_card
from cdml_jax.cli.actions.outcome import operations_of, result_of, settings_of_run
from cdml_jax.cli.actions.page import attempt
from cdml_jax.cli.actions.running import prepare, say_next
from cdml_jax.configuration import keys
from cdml_jax.configuration.fitting import as_begun
from cdml_jax.configuration.settings import Settings
from cdml_jax.configuration.styles import styled
from cdml_jax.confusion.figures import accuracy
from cdml_jax.data.dataset import Dataset
from cdml_jax.data.dividing.folds import pool
from cdml_jax.distributed import processes
from cdml_jax.distributed.signals import Interrupted, Stop
from cdml_jax.errors import UserError
from cdml_jax.methods import METHODS, Method, named_method
from cdml_jax.methods.alike import alike
from cdml_jax.methods.identity import own_digest
from cdml_jax.methods.structure import Structure
from cdml_jax.reporting import results
from cdml_jax.reporting.card import figures_of
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.table import tabulate
from cdml_jax.retrieval import clustering
from cdml_jax.runs import workdir
from cdml_jax.runs.checkpoint import Run, keep_newest, steps_kept
from cdml_jax.runs.claims import claim, held
from cdml_jax.runs.cross_validation import cross_validate
from cdml_jax.runs.loop import fit, fork
from cdml_jax.system import console
from cdml_jax.training.program import Program

if TYPE_CHECKING:
    from cdml_jax.reporting.report import Report


@processes.joined()
def reproduce(
    config: Settings, folder: Path, command: str, methods: Mapping[str, Method] = METHODS
) -> Report | None:
    """The table: every method under every seed, equal steps, warm-up shared per seed; then the report.

    Finished runs are kept in `folder`/results and not run again; a run that was stopped continues. The first
    process writes the report and returns it.
    """
    config = styled(config)
    seeds = range(config.seed, config.seed + config.reproduce.seeds)
    program = _prepared(config, folder, methods, seeds)
    config = program.config
    left_out = clustering.why_not(len(program.dataset.splits["test"]))
    if left_out:
        console.say(left_out)
    kept, folds = folder / "results", config.reproduce.folds
    dataset = program.dataset
    with held(folder), Stop().listening() as stop:
        done = {(r.method, r.seed) for r in _kept(kept, program)}
        held_out = None
        if folds:
            console.say(
                f"The baseline, seed {config.seed}, on {folds} folds; then all methods on all of them:"
            )
            held_out = cross_validate(
                program,
                "baseline",
                methods["baseline"],
                config.seed,
                folds=folds,
                folder=folder / "folds",
                stop=stop,
            ).sum(axis=0)
            program = program.beside(feeds=pool(program.feeds))
        programs, counted = {program.structure: program}, functools.cache(operations_of)
        for seed in seeds:
            warm: dict[Structure, Run] = {}
            for name in config.reproduce.methods:
                if (name, seed) in done:
                    continue
                place = folder / "runs" / f"{name}-seed{seed}"
                method, settings = methods[name], settings_of_run(config, name, seed)
                claim("train", settings, place, dataset, method, pooled=bool(folds), images=False)
                base = method.structure.warm
                for structure in (base, method.structure):
                    if structure not in programs:
                        programs[structure] = program.beside(structure=structure)
                own = programs[method.structure]
                # A run that was begun before has its own checkpoint to continue from.
                if base not in warm and processes.largest(not steps_kept(place)):
                    warm[base] = _warm_up(programs[base], methods["baseline"], seed, folder, stop)
                start = fork(own, warm[base]) if base in warm else None
                with held(place):
                    run = fit(own, method, seed, start=start, folder=place, stop=stop, save_last=True)
                    keep_newest(place)
                result = result_of(own, name, method, seed, run, held_out, counted(own))
                if processes.is_first():
                    results.save(result, kept)
                seen = {"test": figures_of(result.test_counts, run.epoch)}
                if not folds:
                    seen = {"validation": figures_of(result.validation_counts, run.epoch)} | seen
                write_card(place, own, settings, method, run, seen, say=False)
                processes.wait_for_all("saved")
                asked = processes.largest(stop.signal_number or 0)
                if asked:  # while it was evaluated
                    raise Interrupted(asked, int(run.state.step))
                shown = "" if folds else f" validation {accuracy(result.validation_counts):.2%},"
                console.say(f"{method.title}, seed {seed}:{shown} {run.seconds:.0f} s")
    if not processes.is_first():
        return None
    wanted = [r for r in results.load(kept) if r.method in config.reproduce.methods and r.seed in seeds]
    report = _report(dataset, wanted, config, folder, command, methods, draw=False)
    console.result(f"\n{report.table}\n{report.answers}\n{report.embeddings}\n")
    report = _report(dataset, wanted, config, folder, command, methods, draw=True)
    console.result("\n".join(map(str, report.paths)))
    attempt(folder, command=command, dataset=dataset)
    say_next("predict", folder / "runs" / f"{config.reproduce.methods[-1]}-seed{config.seed}", " IMAGE")
    return report


def _prepared(
    config: Settings, folder: Path, methods: Mapping[str, Method], seeds: range
) -> Program[Settings]:
    """All that a table shares, once nothing is left to be refused."""
    compared = [named_method(name, methods) for name in config.reproduce.methods]
    if config.early_stopping:
        raise UserError(
            "early_stopping: the methods of a table are compared at equal steps; set it to 0, or use `cdml "
            "train`"
        )
    config = as_begun(config, workdir.begun_with(folder))
    _say_alike(config, methods)
    _look_at_runs(config, folder, methods, seeds)
    program = prepare("reproduce", config, folder, "validation", "test", methods=compared)
    if program.storage.name == "top":
        raise UserError(
            "confusion.storage: top keeps no confusion matrix, from which the report of cdml reproduce "
            "is made; use cdml train and cdml evaluate, or confusion.storage=by_class"
        )
    return program


def _say_alike(config: Settings, methods: Mapping[str, Method]) -> None:
    """Warn of methods that nothing but chance will set apart."""
    objective = config.objective
    for names in alike(
        {name: methods[name] for name in config.reproduce.methods},
        composed=config.sampling.composed,
        triplet_weight=objective.triplet_weight,
        pair_beta=objective.pair_beta,
        in_batch=objective.in_batch,
    ):
        console.warn(
            f"reproduce.methods: {' and '.join(names)} are the same method at these settings of sampling and "
            "objective; their rows will differ by chance alone, on a GPU by as much as two runs do"
        )


def _look_at_runs(config: Settings, folder: Path, methods: Mapping[str, Method], seeds: range) -> None:
    """Refuse a table of which a run, finished or begun, is of another version of its method."""
    for name in config.reproduce.methods if processes.is_first() else ():
        for seed in seeds:
            place = folder / "runs" / f"{name}-seed{seed}"
            settings, digest = settings_of_run(config, name, seed), own_digest(methods[name])
            if (place / "config.json").exists():
                folds = bool(config.reproduce.folds)
                workdir.look(place, "train", settings, method_digest=digest, pooled=folds)


def _kept(folder: Path, program: Program[Settings]) -> list[RunResult]:
    """The finished results of the table, all of them on its images."""
    found, test = results.load(folder), program.feed("test")
    names = [test.name(index) for index in range(len(test))]
    results.refuse_others(found, folder, names, test.labels, program.dataset.num_classes)
    return found


def _warm_up(program: Program[Settings], baseline: Method, seed: int, folder: Path, stop: Stop) -> Run:
    """The epochs in which every method is the baseline, trained once for all methods of a seed.

    And of a network: one that a part belongs to has its own.
    """
    part = f"-{program.structure.part}" if program.structure.part else ""
    return fit(
        program,
        dataclasses.replace(baseline, structure=program.structure),
        seed,
        until_epoch=program.config.warmup_epochs,
        folder=folder / "runs" / f"warmup{part}-seed{seed}",
        stop=stop,
    )


def _report(
    dataset: Dataset,
    wanted: list[RunResult],
    config: Settings,
    folder: Path,
    command: str,
    methods: Mapping[str, Method],
    *,
    draw: bool,
) -> Report:
    from cdml_jax.reporting.report import write_report  # here: training needs no scipy

    titles = {name: method.title for name, method in methods.items()}
    found = costs_of(config.confusion.source, None, dataset.classes)
    return write_report(
        tabulate(wanted, dataset.classes, titles=titles),
        folder,
        dataset_name=dataset.name,
        command=command,
        settings=keys.fitted(dataclasses.asdict(config))
        | ({"split_checksum": dataset.checksum} if dataset.checksum else {}),
        draw=draw,
        costs=found[0] if found else None,
    )
