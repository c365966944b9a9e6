"""What the command line calls: train one row, evaluate it, reproduce the table."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdml_jax import clustering
from cdml_jax.configuration import keys
from cdml_jax.configuration.checks import check
from cdml_jax.configuration.settings import Settings, from_plain
from cdml_jax.confusion import Confusion
from cdml_jax.confusion.figures import accuracy, confusion_inside_families, family_accuracy, mean_class_error
from cdml_jax.data.classes import Classes
from cdml_jax.data.dataset import Dataset
from cdml_jax.data.folds import pool
from cdml_jax.errors import UserError
from cdml_jax.methods import METHODS, Method, named_method
from cdml_jax.methods.structure import PLAIN
from cdml_jax.reporting import drawing, results
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.table import tabulate
from cdml_jax.system import console
from cdml_jax.training import classes, hosts, timing, workdir
from cdml_jax.training.checkpoint import Run, keep_newest, restore_last, steps_kept
from cdml_jax.training.compiled import keep_compiled
from cdml_jax.training.cross_validation import cross_validate
from cdml_jax.training.embedding import evaluate_split, measure, measured_embedding
from cdml_jax.training.loop import fit, fork
from cdml_jax.training.memory import what_runs_where
from cdml_jax.training.mesh import divide_processor, make_mesh
from cdml_jax.training.outcome import result_of, settings_of_run
from cdml_jax.training.program import Program, load_dataset
from cdml_jax.training.stop import Stop

if TYPE_CHECKING:
    from cdml_jax.reporting.report import Report

_DRAWN = 1000  # classes up to which a picture of the confusion shows anything


def _prepare(
    command: str,
    config: Settings,
    folder: Path,
    *splits: str,
    stored: Mapping[str, Any] | None = None,
    method: Method | None = None,
    digest: str = "",
) -> Program[Settings]:
    """Everything that can be refused, before anything slow; then the program, and one line about it.

    `splits` are those that must be there; `command` is whose run the folder holds. Where the folder's run is
    only looked at, `stored` is what it holds; else the folder becomes this run's.
    """
    check(config)
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
    program = Program(config, dataset, structure=method.structure if method else PLAIN)
    program.check_weights()
    placement = what_runs_where(program)
    if stored is not None:
        workdir.check_images(folder, stored, dataset.fingerprint(), dataset.contents)
        if hosts.is_first():
            classes.write(folder, dataset)
    else:
        _claim(command, config, folder, dataset, method, digest=digest)
    sizes = ", ".join(f"{len(source)} {name}" for name, source in dataset.splits.items())
    console.say(
        f"{dataset.name}: {dataset.num_classes} classes, images: {sizes}. "
        f"{program.total_steps} steps. Writing to {folder}"
    )
    console.detail(placement)
    return program


def _claim(
    command: str,
    config: Settings,
    folder: Path,
    dataset: Dataset,
    method: Method | None = None,
    *,
    digest: str = "",
    pooled: bool = False,
) -> None:
    """Make a folder the run's, with what its use needs: settings, names of the classes, and of the method."""
    used = {"title": method.title, "embedding": measured_embedding(config, method)} if method else {}
    workdir.claim(
        folder,
        command,
        config,
        dataset.fingerprint(),
        split_checksum=dataset.checksum,
        contents=dataset.contents,
        pooled=pooled,
        method=used | ({"digest": digest} if digest else {}),
        write=hosts.is_first(),
    )
    if hosts.is_first():
        classes.write(folder, dataset)
    hosts.wait_for_all("claimed")


def _next(command: str, folder: Path, more: str = "") -> None:
    """What a person may do now, as the last line."""
    console.say(f"Next: cdml {command} --workdir={shlex.quote(str(folder))}{more}")


def _held(folder: Path) -> contextlib.AbstractContextManager[None]:
    return workdir.held(folder) if hosts.is_first() else contextlib.nullcontext()


@hosts.joined()
def train(
    config: Settings, folder: Path, methods: Mapping[str, Method] = METHODS, *, digest: str = ""
) -> Run:
    """Train the method `config.row` under `config.seed`; checkpoints and logs go to `folder`.

    Args:
      config: the settings.
      folder: the workdir.
      methods: by name: the package's, and those of the configuration file.
      digest: of that file, where it defines methods.
    """
    method = named_method(config.row, methods)
    program = _prepare("train", config, folder, method=method, digest=digest)
    with _held(folder), Stop().listening() as stop:
        run = fit(program, method, config.seed, folder=folder, stop=stop, save_last=True)
    last = run.history[-1]
    shown = [f"{config.epochs} epochs in {run.seconds:.0f} s", f"loss {last['loss']:.4f}"]
    if "validation_accuracy" in last:
        shown.append(f"validation accuracy {last['validation_accuracy']:.2%}")
    console.say(f"{method.title}, seed {config.seed}: {', '.join(shown)}")
    console.say(timing.summary(run.history))
    if "validation" in program.dataset.splits:
        _next("evaluate", folder)
    elif "test" in program.dataset.splits:
        _next("evaluate", folder, " --split=test")
    else:
        _next("predict", folder, " IMAGE")
    return run


@hosts.joined()
def evaluate(folder: Path, split: str) -> Confusion | None:
    """Confusion counts of a trained run on a split; prints its figures and draws the confusion if it can.

    Where no class of the split was trained (`data.class_disjoint`), only its embeddings are measured.
    """
    stored = workdir.read_trained(folder)
    if split == "validation" and stored.get("pooled"):
        raise UserError(
            f"--split: the validation images are among those that {folder} was trained on (reproduce.folds); "
            "choose test"
        )
    config = from_plain(stored["config"])
    # A configuration file is not run here: what its method says of the embedding was kept.
    kept = stored["method"]
    program = _prepare("train", config, folder, split, stored=stored)
    run = restore_last(folder, program)
    if run.epoch < config.epochs:
        console.say(f"The run stands at epoch {run.epoch} of {config.epochs}.")
    embedding = kept["embedding"]
    seen = evaluate_split(program, run.state, split, embedding)
    figures = measure(seen.embeddings, seen.labels, embedding) if hosts.is_first() else None
    hosts.wait_for_all("measured")
    left_out = clustering.why_not(len(seen.labels))
    dataset, disjoint = program.dataset, split == "test" and program.dataset.test_class_names is not None
    if disjoint:
        count = len(dataset.test_class_names or ())
        console.result(f"{split}, {count} classes never trained, {embedding}: {figures}")
    else:
        _print_counts(seen.counts, split, dataset.classes)
        console.result(f"embeddings ({embedding}): {figures}")
    if left_out:
        console.result(left_out)
    if not disjoint and hosts.is_first():
        _show_confusion(seen.counts, f"{kept['title']} on {dataset.name}", split, dataset, folder)
    _next("predict", folder, " IMAGE")
    return None if disjoint else seen.counts


def _print_counts(counts: Confusion, split: str, names: Classes) -> None:
    console.result(f"{split}: top-1 {accuracy(counts):.2%}, mean class error {mean_class_error(counts):.2%}")
    matrix = counts.matrix
    if names.families is not None and matrix is not None:
        inside = confusion_inside_families(matrix, names.families)
        told = "no errors" if math.isnan(inside) else f"{inside:.1%} of the errors stay inside the family"
        console.result(f"right family {family_accuracy(matrix, names.families):.2%}; {told}")


def _show_confusion(counts: Confusion, title: str, split: str, dataset: Dataset, folder: Path) -> None:
    """The most confused pairs, and a picture of the counts where it would show anything."""
    from cdml_jax.reporting.pairs import confused_pairs_of  # here: training needs no scipy

    names = dataset.classes
    console.result("Most confused:")
    for pair in confused_pairs_of(counts, 5):
        console.result(
            f"  {pair.rate:6.1%} of {names.names[pair.true]} are called {names.names[pair.called]}"
        )
    matrix = counts.matrix
    if matrix is None or names.number > _DRAWN:
        return
    left_out = drawing.why_not()
    if left_out:
        console.warn(left_out)
        return

    def draw(path: Path) -> None:
        from cdml_jax.reporting.matrices import confusion_figure  # here: training needs no matplotlib

        drawing.warn_of_glyphs(names)
        confusion_figure({f"{title}, {split} split": matrix}, names, path)

    picture = drawing.attempt(folder / f"confusion_{split}.png", draw)
    if picture is not None:
        console.say(f"Picture: {picture}")


@hosts.joined()
def reproduce(
    config: Settings,
    folder: Path,
    command: str,
    methods: Mapping[str, Method] = METHODS,
    *,
    digest: str = "",
) -> Report | None:
    """The table: every row under every seed, equal steps, warm-up shared per seed; then the report.

    Finished runs are kept in `folder`/results and not run again; a run that was stopped continues. The first
    process writes the report and returns it.
    """
    for name in config.reproduce.rows:
        named_method(name, methods)
    program = _prepare("reproduce", config, folder, "validation", "test", digest=digest)
    if program.storage.name == "top":
        raise UserError(
            "confusion.storage: top keeps no confusion matrix, of which the report of cdml reproduce is "
            "made; use cdml train and cdml evaluate, or confusion.storage=by_row"
        )
    left_out = clustering.why_not(len(program.dataset.splits["test"]))
    if left_out:
        console.say(left_out)
    kept, folds = folder / "results", config.reproduce.folds
    dataset = program.dataset
    seeds = range(config.seed, config.seed + config.reproduce.seeds)
    with _held(folder), Stop().listening() as stop:
        done = {(r.row, r.seed) for r in results.load(kept)}
        held_out = None
        if folds:
            console.say(f"The baseline, seed {config.seed}, on {folds} folds; then all rows on all of them:")
            held_out = cross_validate(
                program,
                "baseline",
                methods["baseline"],
                config.seed,
                folds=folds,
                folder=folder / "folds",
                stop=stop,
            ).sum(axis=0)
            program = Program(config, dataset, feeds=pool(program.feeds))
        programs = {program.structure: program}
        for seed in seeds:
            warm: Run | None = None
            for row in config.reproduce.rows:
                if (row, seed) in done:
                    continue
                place = folder / "runs" / f"{row}-seed{seed}"
                method, settings = methods[row], settings_of_run(config, row, seed)
                _claim("train", settings, place, dataset, method, digest=digest, pooled=bool(folds))
                # A run that was begun before has its own checkpoint to continue from.
                if warm is None and hosts.largest(not steps_kept(place)):
                    warm = _warm_up(program, methods["baseline"], seed, folder, stop)
                own = programs.setdefault(method.structure, _beside(program, method))
                start = None if warm is None else fork(own, warm)
                with _held(place):
                    run = fit(own, method, seed, start=start, folder=place, stop=stop, save_last=True)
                    keep_newest(place)
                result = result_of(own, row, method, seed, run, held_out)
                if hosts.is_first():
                    results.save(result, kept)
                hosts.wait_for_all("saved")
                shown = "" if folds else f" validation {accuracy(result.validation_counts):.2%},"
                console.say(f"{method.title}, seed {seed}:{shown} {run.seconds:.0f} s")
    if not hosts.is_first():
        return None
    wanted = [r for r in results.load(kept) if r.row in config.reproduce.rows and r.seed in seeds]
    report = _report(dataset, wanted, config, folder, command, methods)
    console.result(f"\n{report.table}\n{report.embeddings}\n")
    console.result("\n".join(map(str, report.paths)))
    _next("predict", folder / "runs" / f"{config.reproduce.rows[-1]}-seed{config.seed}", " IMAGE")
    return report


def _beside(program: Program[Settings], method: Method) -> Program[Settings]:
    """The program of a method's structure, on the same images."""
    if method.structure == program.structure:
        return program
    return Program(program.config, program.dataset, feeds=program.feeds, structure=method.structure)


def _warm_up(program: Program[Settings], baseline: Method, seed: int, folder: Path, stop: Stop) -> Run:
    """The epochs in which every method is the baseline, trained once for all methods of a seed."""
    return fit(
        program,
        baseline,
        seed,
        until_epoch=program.config.warmup_epochs,
        folder=folder / "runs" / f"warmup-seed{seed}",
        stop=stop,
    )


def _report(
    dataset: Dataset,
    wanted: list[RunResult],
    config: Settings,
    folder: Path,
    command: str,
    methods: Mapping[str, Method],
) -> Report:
    from cdml_jax.reporting.report import write_report  # here: training needs no scipy

    titles = {name: method.title for name, method in methods.items()}
    return write_report(
        tabulate(wanted, dataset.classes, titles=titles),
        folder,
        dataset_name=dataset.name,
        command=command,
        settings=keys.fitted(dataclasses.asdict(config))
        | ({"split_checksum": dataset.checksum} if dataset.checksum else {}),
    )
