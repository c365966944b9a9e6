"""What the command line calls: train one row, evaluate it, reproduce the table."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import ConfigDict

from cdml_jax.data.dataset import Dataset
from cdml_jax.data.folds import pool
from cdml_jax.errors import UserError, writing
from cdml_jax.metrics import accuracy, confusion_inside_families, family_accuracy, mean_class_error
from cdml_jax.reporting import results
from cdml_jax.reporting.results import RunResult
from cdml_jax.retrieval import clustering
from cdml_jax.top_confusions import TopConfusions
from cdml_jax.training import classes, hosts, settings, timing, workdir
from cdml_jax.training.checkpoint import Run, restore_last
from cdml_jax.training.compiled import keep_compiled
from cdml_jax.training.cross_validation import cross_validate
from cdml_jax.training.embedding import evaluate_split, measure, measured_embedding
from cdml_jax.training.loop import fit, fork
from cdml_jax.training.memory import what_runs_where
from cdml_jax.training.mesh import divide_processor, make_mesh
from cdml_jax.training.program import Program, load_dataset
from cdml_jax.training.rows import ROWS
from cdml_jax.training.stop import Stop
from cdml_jax.training.storage import Counts

if TYPE_CHECKING:
    from cdml_jax.reporting.report import Report

_DRAWN = 1000  # classes up to which a picture of the confusion shows anything


def _prepare(command: str, config: ConfigDict, folder: Path, *splits: str) -> Program:
    """Everything that can be refused, before anything slow; then the program, and one line about it.

    `splits` are those that must be there; `command` is whose run the folder holds.
    """
    settings.check(config)
    keep_compiled(config.compilation_cache)
    divide_processor(config.mesh.cpu_devices, config.batch_size // config.accumulation)
    make_mesh(config.batch_size, config.accumulation, data=config.mesh.data, model=config.mesh.model)
    dataset = load_dataset(config)
    for split in splits:
        if split not in dataset.splits:
            raise UserError(
                f"source: {config.source} has no {split} split, which is needed here; "
                f"name one by data.{split}, or set data.{split}_fraction"
            )
        if split == "test" and command == "reproduce" and dataset.test_class_names is not None:
            raise UserError(
                "data.class_disjoint: no test image is of a class that is trained, so there is no table of "
                "test accuracy; use cdml train, and cdml evaluate --split=test for the embedding"
            )
    program = Program(config, dataset)
    program.check_weights()
    placement = what_runs_where(program)
    workdir.claim(
        folder,
        command,
        config,
        dataset.fingerprint(),
        split_checksum=dataset.checksum,
        write=hosts.is_first(),
    )
    if hosts.is_first():
        classes.write(folder, dataset)
    hosts.wait_for_all("claimed")
    sizes = ", ".join(f"{len(source)} {name}" for name, source in dataset.splits.items())
    hosts.say(
        f"{dataset.name}: {dataset.num_classes} classes, images: {sizes}. "
        f"{program.total_steps} steps. Writing to {folder}"
    )
    hosts.say(placement)
    return program


def _held(folder: Path) -> contextlib.AbstractContextManager[None]:
    return workdir.held(folder) if hosts.is_first() else contextlib.nullcontext()


@hosts.joined()
def train(config: ConfigDict, folder: Path) -> Run:
    """Train `config.row` under `config.seed`; checkpoints and logs go to `folder`."""
    program = _prepare("train", config, folder)
    with _held(folder), Stop().listening() as stop:
        run = fit(program, config.row, config.seed, folder=folder, stop=stop, save_last=True)
    last = run.history[-1]
    shown = [f"{config.epochs} epochs in {run.seconds:.0f} s", f"loss {last['loss']:.4f}"]
    if "validation_accuracy" in last:
        shown.append(f"validation accuracy {last['validation_accuracy']:.2%}")
    hosts.say(f"{ROWS[config.row].title}, seed {config.seed}: {', '.join(shown)}")
    hosts.say(timing.summary(run.history))
    return run


@hosts.joined()
def evaluate(folder: Path, split: str) -> Counts | None:
    """Confusion counts of a trained run on a split; prints its figures and draws the confusion if it can.

    Where no class of the split was trained (`data.class_disjoint`), only its embeddings are measured.
    """
    stored = workdir.read(folder)
    if stored["command"] != "train":
        raise UserError(f"--workdir: {folder} holds a run of `cdml {stored['command']}`, not of `cdml train`")
    config = ConfigDict(stored["config"], convert_dict=True)
    program = _prepare("train", config, folder, split)
    run = restore_last(folder, program)
    if run.epoch < config.epochs:
        hosts.say(f"The run stands at epoch {run.epoch} of {config.epochs}.")
    embedding = measured_embedding(config, config.row)
    counts, embeddings, labels = evaluate_split(program, run.state, split, embedding)
    figures = measure(embeddings, labels, embedding) if hosts.is_first() else None
    hosts.wait_for_all("measured")
    left_out = clustering.why_not(len(labels))
    dataset = program.dataset
    if split == "test" and dataset.test_class_names is not None:
        hosts.say(f"{split}, {len(dataset.test_class_names)} classes never trained, {embedding}: {figures}")
        if left_out:
            hosts.say(left_out)
        if figures and figures.warning:
            hosts.say(figures.warning)
        return None
    if not hosts.is_first():
        return counts
    print(f"{split}: top-1 {accuracy(counts):.2%}, mean class error {mean_class_error(counts):.2%}")
    whole = not isinstance(counts, TopConfusions)
    if dataset.families is not None and whole:
        inside = confusion_inside_families(counts, dataset.families)
        told = "no errors" if math.isnan(inside) else f"{inside:.1%} of the errors stay inside the family"
        print(f"right family {family_accuracy(counts, dataset.families):.2%}; {told}")
    print(f"embeddings ({embedding}): {figures}")
    if left_out:
        print(left_out)
    if figures and figures.warning:
        print(figures.warning)
    from cdml_jax.reporting.pairs import confused_pairs_of  # here: training needs no matplotlib

    print("Most confused:")
    for pair in confused_pairs_of(counts, 5):
        print(
            f"  {pair.rate:6.1%} of {dataset.class_names[pair.true]} are called "
            f"{dataset.class_names[pair.called]}"
        )
    if not whole or dataset.num_classes > _DRAWN:
        return counts
    with writing(folder):
        from cdml_jax.reporting.figures import confusion_figure

        picture = confusion_figure(
            counts,
            dataset.class_names,
            dataset.families,
            dataset.family_names,
            folder / f"confusion_{split}.png",
            title=f"{ROWS[config.row].title} on {dataset.name}, {split} split",
        )
    print(f"Picture: {picture}")
    return counts


@hosts.joined()
def reproduce(config: ConfigDict, folder: Path, command: str) -> Report | None:
    """The table: every row under every seed, equal steps, warm-up shared per seed; then the report.

    Finished runs are kept in `folder`/results and not run again; a run that was stopped continues. The first
    process writes the report and returns it.
    """
    program = _prepare("reproduce", config, folder, "validation", "test")
    if program.storage.name == "top":
        raise UserError(
            "confusion.storage: top keeps no confusion matrix, of which the report of cdml reproduce is "
            "made; use cdml train and cdml evaluate, or confusion.storage=by_row"
        )
    left_out = clustering.why_not(len(program.dataset.splits["test"]))
    if left_out:
        hosts.say(left_out)
    kept, folds = folder / "results", config.reproduce.folds
    with _held(folder), Stop().listening() as stop:
        held_out = None
        if folds:
            hosts.say(f"The baseline, seed {config.seed}, on {folds} folds; then all rows on all of them:")
            held_out = cross_validate(
                config,
                program.dataset,
                "baseline",
                config.seed,
                folds=folds,
                folder=folder / "folds",
                stop=stop,
            ).sum(axis=0)
            program = Program(config, pool(program.dataset))
        for seed in range(config.seed, config.seed + config.reproduce.seeds):
            done = {(r.row, r.seed) for r in results.load(kept)}
            missing = [row for row in config.reproduce.rows if (row, seed) not in done]
            if not missing:
                continue
            warm = fit(
                program,
                "baseline",
                seed,
                until_epoch=config.warmup_epochs,
                folder=folder / "runs" / f"warmup-seed{seed}",
                stop=stop,
            )
            for row in missing:
                run = fit(
                    program,
                    row,
                    seed,
                    start=fork(program, warm),
                    folder=folder / "runs" / f"{row}-seed{seed}",
                    stop=stop,
                )
                result = _result(program, row, seed, run, held_out)
                if hosts.is_first():
                    results.save(result, kept)
                hosts.wait_for_all("saved")
                shown = "" if folds else f" validation {accuracy(result.validation_counts):.2%},"
                hosts.say(f"{ROWS[row].title}, seed {seed}:{shown} {run.seconds:.0f} s")
    seeds = range(config.seed, config.seed + config.reproduce.seeds)
    wanted = [r for r in results.load(kept) if r.row in config.reproduce.rows and r.seed in seeds]
    return _report(program.dataset, wanted, config, folder, command) if hosts.is_first() else None


def _result(program: Program, row: str, seed: int, run: Run, held_out: np.ndarray | None = None) -> RunResult:
    """Figures of a finished run; of folds, only the baseline's counts `held_out` are validation counts."""
    if held_out is None:
        validation = program.evaluate(run.state, "validation")[0]
    else:
        validation = held_out if row == "baseline" else np.zeros_like(held_out)
    # Read once, by the last step's model: nothing is chosen by it.
    embedding = measured_embedding(program.config, row)
    tested = evaluate_split(program, run.state, "test", embedding)
    return RunResult(
        row=row,
        seed=seed,
        steps=int(run.state.step),
        seconds=run.seconds,
        validation_counts=validation,
        test_counts=tested.counts,
        history=run.history,
        # The first process alone writes results.
        embeddings=measure(tested.embeddings, tested.labels, embedding) if hosts.is_first() else None,
    )


def _report(
    dataset: Dataset, wanted: list[RunResult], config: ConfigDict, folder: Path, command: str
) -> Report:
    from cdml_jax.reporting.paper import DATASET, TABLE_2  # here: training needs no matplotlib
    from cdml_jax.reporting.report import write_report

    return write_report(
        wanted,
        folder=folder,
        title=f"Cost-sensitive deep metric learning on {dataset.name}",
        class_names=dataset.class_names,
        families=dataset.families,
        family_names=dataset.family_names,
        row_titles={name: row.title for name, row in ROWS.items()},
        command=command,
        settings=config.to_dict() | ({"split_checksum": dataset.checksum} if dataset.checksum else {}),
        dataset_name=dataset.name,
        paper=TABLE_2 if dataset.name == DATASET else None,
    )
