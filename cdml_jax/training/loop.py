"""The order of effects of a run: next batch, step, save; at an epoch's end count, evaluate, log, save."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from cdml_jax.data.batches import training_batches
from cdml_jax.errors import UserError
from cdml_jax.metrics import accuracy, compute, mean_class_error
from cdml_jax.training import hosts
from cdml_jax.training import mesh as mesh_lib
from cdml_jax.training.checkpoint import Checkpoints, Run
from cdml_jax.training.program import Program
from cdml_jax.training.rows import ROWS, Row, confusion_statistics, plan_row_epoch
from cdml_jax.training.state import NO_STEP
from cdml_jax.training.writers import Writers

_AGREE_EVERY = 10  # steps between looks at what other processes were asked: each waits for all
_CHECK_EVERY = 50  # steps between looks at whether the loss is finite: each waits for the device


class Interrupted(Exception):  # noqa: N818 - like KeyboardInterrupt
    """A signal asked the run to end; what it had reached is saved where it has a folder."""

    def __init__(self, signal_number: int, step: int):
        super().__init__(signal_number, step)
        self.signal_number, self.step = signal_number, step


class Stop:
    """Whether a signal has asked to end: SIGINT (Ctrl-C) or SIGTERM (preemption)."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[Stop]:
        """Notes the first signal and lets the step end; a second Ctrl-C ends at once."""

        def note(number: int, _frame: Any) -> None:
            if self.signal_number is not None:
                raise KeyboardInterrupt
            self.signal_number = number

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def begin(program: Program, seed: int) -> Run:
    """A run before its first step; nothing is confused yet."""
    classes = program.dataset.num_classes
    counts = np.zeros((classes, classes), np.float32)
    return Run(program.initial_state(seed), counts, confusion_statistics(counts, program.config.confusion))


def fork(program: Program, run: Run) -> Run:
    """A copy that can be trained on while the original stays."""
    return dataclasses.replace(run, state=program.copy(run.state), history=copy.deepcopy(run.history))


def fit(
    program: Program,
    row_name: str,
    seed: int,
    *,
    start: Run | None = None,
    until_epoch: int | None = None,
    folder: Path | None = None,
    stop: Stop | None = None,
    save_last: bool = False,
) -> Run:
    """Train one row under one seed to the end, from where it was.

    Args:
      program: what all rows share.
      row_name: a key of `ROWS`.
      seed: of the initial parameters, the order of the data, the augmentation and the draws.
      start: a run to continue from where `folder` holds none; it is used up.
      until_epoch: end there; None for all epochs.
      folder: where checkpoints and logs go; None keeps nothing.
      stop: asks to end early.
      save_last: keep the last step too, not only those that `checkpoint.every_seconds` makes due.

    Returns:
      The run after its last step.

    Raises:
      Interrupted: `stop` asked, after saving.
      UserError: the loss is not finite.
    """
    checkpoints = Checkpoints(folder / "checkpoints", keep=program.config.checkpoint.keep) if folder else None
    try:
        run = checkpoints.restore(program) if checkpoints else None
        if run is not None:
            hosts.say(f"{ROWS[row_name].title}, seed {seed}: continuing at step {int(run.state.step)}")
        else:
            run = start or begin(program, seed)
        writers = Writers(folder, run.history) if folder and hosts.is_first() else None
        end = program.config.epochs if until_epoch is None else until_epoch
        bar = tqdm(
            total=end * program.steps_per_epoch * program.config.batch_size,
            initial=int(run.state.step) * program.config.batch_size,
            desc=f"{ROWS[row_name].title}, seed {seed}",
            unit=" images",
            unit_scale=True,
            disable=None if hosts.is_first() else True,  # None: where standard error is no terminal
            leave=False,
            dynamic_ncols=True,
        )
        with bar, contextlib.closing(writers) if writers else contextlib.nullcontext():
            trainer = _Trainer(program, ROWS[row_name], seed, run, checkpoints, writers, stop or Stop(), bar)
            while run.epoch < end:
                trainer.train_epoch()
            if save_last:
                trainer.save()
        return run
    finally:
        if checkpoints:
            checkpoints.close()


@dataclasses.dataclass
class _Trainer:
    program: Program
    row: Row
    seed: int
    run: Run
    checkpoints: Checkpoints | None
    writers: Writers | None
    stop: Stop
    bar: tqdm

    def __post_init__(self) -> None:
        self.saved_at, self.asked = time.monotonic(), 0
        self.last_good: int | None = self.checkpoints.latest() if self.checkpoints else None

    def train_epoch(self) -> None:
        program, run, config = self.program, self.run, self.program.config
        source = program.source("train")
        costs, order = plan_row_epoch(
            self.row, config, source.labels, run.counts, run.statistics, seed=self.seed, epoch=run.epoch
        )
        on_devices = mesh_lib.put_replicated(program.mesh, costs)
        batches = training_batches(
            source,
            order,
            seed=self.seed,
            epoch=run.epoch,
            transform=program.transform,
            start_step=run.step_in_epoch,
            num_threads=config.data.num_threads,
            shard=mesh_lib.process_shard(),
        )
        began, images, seconds_before = time.monotonic(), 0, run.seconds
        with contextlib.closing(batches):
            for batch in batches:
                batch.pop("index")
                on_device = mesh_lib.put_batch(program.mesh, batch)
                with jax.transfer_guard("disallow"):
                    run.state = program.step(run.state, on_device, on_devices)
                run.step_in_epoch += 1
                images += config.batch_size
                self.bar.update(config.batch_size)
                if run.step_in_epoch < program.steps_per_epoch:
                    began = self._between_steps(began)
        jax.block_until_ready(run.state.step)
        run.seconds += time.monotonic() - began
        self._end_epoch(costs, images / max(run.seconds - seconds_before, 1e-9))

    def _between_steps(self, began: float) -> float:
        if self._agree(self.run.step_in_epoch):
            self.run.seconds += time.monotonic() - began
            self.save()
            self._leave_if_asked()
            return time.monotonic()
        if self.run.step_in_epoch % _CHECK_EVERY == 0:
            self._check_finite()
        return began

    def _end_epoch(self, costs: Any, images_per_second: float) -> None:
        program, run, settings = self.program, self.run, self.program.config.confusion
        self._check_finite()
        epoch_counts = program.epoch_counts(run.state)
        entry = self._figures(costs, epoch_counts) | {"images_per_second": round(images_per_second, 1)}
        counts = epoch_counts
        if settings.source == "holdout":
            counts = program.evaluate(run.state, "holdout")[settings.counts == "soft"]
        run.counts = (settings.decay * run.counts + counts).astype(np.float32)
        run.statistics = confusion_statistics(run.counts, settings)
        run.epoch, run.step_in_epoch = run.epoch + 1, 0
        last = run.epoch == program.config.epochs
        if "validation" in program.dataset.splits and (
            last or run.epoch % program.config.evaluate_every == 0
        ):
            hard, _ = program.evaluate(run.state, "validation")
            entry["validation_accuracy"] = accuracy(hard)
            entry["validation_mean_class_error"] = mean_class_error(hard)
        run.history.append(entry)
        if self.writers:
            self.writers.write(entry)
        self.bar.set_postfix(
            loss=f"{entry['loss']:.3f}", validation=f"{entry.get('validation_accuracy', math.nan):.3f}"
        )
        run.state = program.begin_epoch(run.state)
        if self._agree(0):
            self.save()
        self._leave_if_asked()

    def _agree(self, step_in_epoch: int) -> bool:
        """Whether all processes save here; a signal that reached one of them is then known to all."""
        if jax.process_count() > 1 and step_in_epoch % _AGREE_EVERY:
            return False
        self.asked = hosts.largest(self.stop.signal_number or 0)
        due = time.monotonic() - self.saved_at >= self.program.config.checkpoint.every_seconds
        return bool(self.asked) or bool(hosts.largest(due and self.checkpoints is not None))

    def _figures(self, costs: Any, counts: np.ndarray) -> dict[str, Any]:
        """The epoch's log entry: averages, and the realised share of the most confused pairs by name."""
        run, names = self.run, self.program.dataset.class_names
        values = {name: np.asarray(value) for name, value in compute(run.state.metrics).items()}
        shares = values.pop("watched_share")
        step = int(run.state.step)
        return {
            "epoch": run.epoch + 1,
            "step": step,
            **{name: float(value) for name, value in values.items()},
            "mean_class_error": mean_class_error(counts),
            "learning_rate": float(self.program.schedule(step - 1)),
            "triplet_weight": float(costs.triplet_weight),
            "confused_pairs": [
                {
                    "true": names[i],
                    "called": names[j],
                    "weight": float(run.statistics.pairs[i, j]),
                    "share": float(share),
                }
                for (i, j), share in zip(costs.watched_pairs.tolist(), shares)
            ],
        }

    def _check_finite(self) -> None:
        bad = int(self.run.state.first_bad_step)
        if bad != NO_STEP:
            kept = "none was saved" if self.last_good is None else f"step {self.last_good}"
            raise UserError(
                f"the loss of step {bad} is not finite (learning rate "
                f"{float(self.program.schedule(bad)):.3g}); last good checkpoint: {kept}. "
                "Lower optimizer.learning_rate, or raise optimizer.warmup_share"
            )

    def save(self) -> None:
        self._check_finite()
        if self.checkpoints:
            self.checkpoints.save(self.run)
            self.last_good = int(self.run.state.step)
        self.saved_at = time.monotonic()

    def _leave_if_asked(self) -> None:
        if self.asked:
            raise Interrupted(self.asked, int(self.run.state.step))
