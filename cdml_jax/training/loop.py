"""The order of effects of a run: next batch, step, save; at an epoch's end count, evaluate, log, save."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from cdml_jax.confusion import Confusion
from cdml_jax.confusion.figures import accuracy, mean_class_error
from cdml_jax.data.batches import CachedSource
from cdml_jax.data.features import FeatureSource
from cdml_jax.errors import UserError
from cdml_jax.training import hosts
from cdml_jax.training import mesh as mesh_lib
from cdml_jax.training.averages import compute
from cdml_jax.training.checkpoint import Checkpoints, Run
from cdml_jax.training.profiling import Profile, annotated, memory_report
from cdml_jax.training.program import Program
from cdml_jax.training.rows import ROWS, Row, check_row, plan_row_epoch, statistics_of
from cdml_jax.training.state import NO_STEP
from cdml_jax.training.stop import Interrupted, Stop
from cdml_jax.training.timing import StepClock, input_advice, peak_memory, seconds_since_start
from cdml_jax.training.writers import Writers

_AGREE_EVERY = 10  # steps between looks at what other processes were asked: each waits for all
_CHECK_EVERY = 50  # steps between looks at whether the loss is finite: each waits for the device


def begin(program: Program, seed: int) -> Run:
    """A run before its first step; nothing is confused yet."""
    counts = program.storage.nothing()
    return Run(program.initial_state(seed), counts, statistics_of(counts, program.config.confusion))


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
    check_row(row_name, program.storage)
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
        steps, first = program.config.profile.steps, program.config.profile.start_step
        profile = Profile((folder or Path()) / "profile", steps=steps if folder else 0, start_step=first)
        with bar, profile.closing(), contextlib.closing(writers) if writers else contextlib.nullcontext():
            trainer = _Trainer(
                program, ROWS[row_name], seed, run, checkpoints, writers, stop or Stop(), bar, profile
            )
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
    profile: Profile

    def __post_init__(self) -> None:
        self.saved_at, self.asked = time.monotonic(), 0
        self.saving_seconds, self.advised, self.first_epoch = 0.0, False, self.run.epoch
        self.last_good: int | None = self.checkpoints.latest() if self.checkpoints else None

    def train_epoch(self) -> None:
        program, run, config = self.program, self.run, self.program.config
        source = program.source("train")
        costs, order = plan_row_epoch(
            self.row, config, source.labels, run.counts, run.statistics, seed=self.seed, epoch=run.epoch
        )
        on_devices = program.put_costs(costs)
        batches = program.training_batches(
            order, seed=self.seed, epoch=run.epoch, start_step=run.step_in_epoch
        )
        clock = StepClock()
        with contextlib.closing(batches), contextlib.closing(clock):
            for batch in clock.fetching(batches):
                batch.pop("index")
                on_device = mesh_lib.put_batch(program.mesh, batch)
                first = not program.traces["step"]
                if first:
                    with clock.paused():
                        self._compile(on_device, on_devices)
                self._step(clock, on_device, on_devices)
                if first:
                    clock.wait()
                    hosts.say(f"The first step was done {seconds_since_start():.1f} s after the start.")
                if run.step_in_epoch < program.steps_per_epoch:
                    self._between_steps(clock)
            timing = clock.figures(config.batch_size)
            run.seconds += clock.lap()
        self._end_epoch(costs, timing)

    def _compile(self, batch: Any, costs: Any) -> None:
        """Once for all rows and seeds. The jitted step finds what is compiled here."""
        began = time.monotonic()
        compiled = self.program.step.lower(self.run.state, batch, costs).compile()
        report = memory_report(compiled, self.program.mesh.local_devices[0])
        hosts.say(f"The step: compiled in {time.monotonic() - began:.1f} s; {report}")
        self.saved_at = time.monotonic()  # until now there was nothing to lose

    def _step(self, clock: StepClock, batch: Any, costs: Any) -> None:
        run = self.run
        step = run.epoch * self.program.steps_per_epoch + run.step_in_epoch
        if self.profile.begins(step):
            with clock.paused():
                self.profile.start()
        with annotated(step), jax.transfer_guard("disallow"):
            run.state = self.program.step(run.state, batch, costs)
        clock.stepped(run.state.step)
        run.step_in_epoch += 1
        self.bar.update(self.program.config.batch_size)
        if self.profile.ends(step + 1):
            with clock.paused():
                self.profile.stop()

    def _between_steps(self, clock: StepClock) -> None:
        if self._agree(self.run.step_in_epoch):
            with clock.paused():
                self.run.seconds += clock.lap()
                self.save()
            self._leave_if_asked()
        elif self.run.step_in_epoch % _CHECK_EVERY == 0:
            self._check_finite()

    def _end_epoch(self, costs: Any, timing: dict[str, float]) -> None:
        program, run, settings = self.program, self.run, self.program.config.confusion
        self._check_finite()
        counts = program.storage.total(run.state.counts)
        entry = self._figures(costs, counts.on_host()) | timing | self._costs_beside_steps(timing)
        if settings.source == "holdout":
            counts = program.total_counts(run.state, "holdout")[settings.counts == "soft"]
        run.counts = run.counts.plus(counts, decay=settings.decay)
        run.statistics = statistics_of(run.counts, settings)
        run.epoch, run.step_in_epoch = run.epoch + 1, 0
        last = run.epoch == program.config.epochs
        if "validation" in program.dataset.splits and (
            last or run.epoch % program.config.evaluate_every == 0
        ):
            hard, _ = program.evaluate(run.state, "validation")
            entry["validation_accuracy"] = accuracy(hard)
            entry["validation_mean_class_error"] = mean_class_error(hard)
        self._advise(entry)
        run.history.append(entry)
        if self.writers:
            self.writers.write(entry)
        self.bar.set_postfix(
            loss=f"{entry['loss']:.3f}",
            validation=f"{entry.get('validation_accuracy', math.nan):.3f}",
            step=f"{entry['step_ms_p50']:.0f} ms",
            waiting=f"{entry['data_wait_share']:.0%}",
        )
        run.state = program.begin_epoch(run.state)
        if self._agree(0):
            self.save()
        self._leave_if_asked()

    def _costs_beside_steps(self, timing: dict[str, float]) -> dict[str, float]:
        """Waiting for images in the process that waited longest; saving since the last entry; peak memory."""
        permille = hosts.largest(round(1000 * timing["data_wait_share"]))
        beside = {"data_wait_share": permille / 1000, "checkpoint_seconds": round(self.saving_seconds, 3)}
        self.saving_seconds = 0.0
        peak = peak_memory(self.program.mesh.local_devices)
        return beside if peak is None else beside | {"peak_memory_bytes": peak}

    def _advise(self, entry: dict[str, Any]) -> None:
        """Once, and not by an epoch in which the loader and the caches were still cold."""
        source, settings = self.program.source("train"), self.program.config.data
        if isinstance(source, FeatureSource):  # nothing to read or decode: such steps are just short
            return
        advice = input_advice(
            entry, num_threads=settings.num_threads, in_memory=isinstance(source, CachedSource)
        )
        if advice and not self.advised and entry["epoch"] > self.first_epoch + 1 and hosts.is_first():
            self.advised = True
            self.bar.write(f"cdml: {advice}", file=sys.stderr)

    def _agree(self, step_in_epoch: int) -> bool:
        """Whether all processes save here; a signal that reached one of them is then known to all."""
        if jax.process_count() > 1 and step_in_epoch % _AGREE_EVERY:
            return False
        self.asked = hosts.largest(self.stop.signal_number or 0)
        due = time.monotonic() - self.saved_at >= self.program.config.checkpoint.every_seconds
        return bool(self.asked) or bool(hosts.largest(due and self.checkpoints is not None))

    def _figures(self, costs: Any, counts: Confusion) -> dict[str, Any]:
        """The epoch's log entry: averages, and the realised share of the most confused pairs by name."""
        run, names = self.run, self.program.dataset.class_names
        values = {name: np.asarray(value) for name, value in compute(run.state.metrics).items()}
        shares = values.pop("watched_share")
        weights = run.statistics.pairs.at(costs.watched_pairs)
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
                    "weight": float(weight),
                    "share": float(share),
                }
                for (i, j), weight, share in zip(costs.watched_pairs.tolist(), weights, shares)
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
            began = time.monotonic()
            self.checkpoints.save(self.run)
            self.saving_seconds += time.monotonic() - began
            self.last_good = int(self.run.state.step)
        self.saved_at = time.monotonic()

    def _leave_if_asked(self) -> None:
        if self.asked:
            raise Interrupted(self.asked, int(self.run.state.step))
