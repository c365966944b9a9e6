"""The order of effects of a run: next batch, step, save; at an epoch's end count, evaluate, log, save."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import time
from typing import Any

import jax
import numpy as np
from etils.epath import Path

from cdml_jax.configuration.settings import Settings
from cdml_jax.confusion import Confusion
from cdml_jax.confusion.figures import accuracy, mean_class_error
from cdml_jax.distributed import mesh as mesh_lib
from cdml_jax.distributed import processes
from cdml_jax.distributed.signals import Interrupted, Stop
from cdml_jax.errors import UserError
from cdml_jax.methods import Method
from cdml_jax.runs.best import Best, waited_enough
from cdml_jax.runs.checkpoint import Checkpoints, Run
from cdml_jax.runs.entries import weights_of_epoch
from cdml_jax.runs.log import Writers
from cdml_jax.runs.profiling import Profile, annotated, memory_report
from cdml_jax.runs.timing import StepClock, input_advice, peak_memory, seconds_since_start
from cdml_jax.system import console
from cdml_jax.training.averages import compute
from cdml_jax.training.epoch import check_method, plan_of_epoch, statistics_of
from cdml_jax.training.program import Program
from cdml_jax.training.sources.out_of_fold import out_of_fold_confusion
from cdml_jax.training.state import NO_STEP

_AGREE_EVERY = 10  # steps between looks at what other processes were asked: each waits for all
_CHECK_EVERY = 50  # steps between looks at whether the loss is finite: each waits for the device


def begin(program: Program[Settings], seed: int) -> Run:
    """A run before its first step; nothing is confused yet, or what held-out folds of the features say."""
    state, settings = program.initial_state(seed), program.config.confusion
    confusion = program.storage.nothing()
    if settings.source == "out_of_fold":
        confusion = out_of_fold_confusion(program, state)
    return Run(state, confusion, statistics_of(confusion, settings, program.costs))


def fork(program: Program[Settings], run: Run) -> Run:
    """A copy that can be trained on by `program` while the original stays.

    The run may be of a program whose structure has other terms: both are at an epoch's end, where nothing
    is counted yet.
    """
    state = program.copy(program.taken_over(run.state))
    return dataclasses.replace(run, state=state, history=copy.deepcopy(run.history))


def fit(
    program: Program[Settings],
    method: Method,
    seed: int,
    *,
    start: Run | None = None,
    until_epoch: int | None = None,
    folder: Path | None = None,
    stop: Stop | None = None,
    save_last: bool = False,
    keep_best: bool = False,
) -> Run:
    """Train one method under one seed to the end, from where it was.

    Args:
      program: what all methods of its structure share.
      method: of that structure.
      seed: of the initial parameters, the order of the data, the augmentation and the draws.
      start: a run to continue from where `folder` holds none; it is used up.
      until_epoch: end there; None for all epochs.
      folder: where checkpoints and logs go; None keeps nothing.
      stop: asks to end early.
      save_last: keep the last step too, not only those that `checkpoint.every_seconds` makes due.
      keep_best: keep the network of the best epoch by validation in `folder` too.

    Returns:
      The run after its last step: that of the last epoch, or where `early_stopping` ended it.

    Raises:
      Interrupted: `stop` asked, after saving.
      UserError: the loss is not finite, or `early_stopping` has no validation split to look at.
    """
    check_method(method, program.storage)
    patience = program.config.early_stopping if until_epoch is None else 0
    if patience and "validation" not in program.feeds:
        raise UserError("early_stopping: there is no validation split to look at; set it to 0")
    if method.structure != program.structure:
        raise ValueError(f"{method.title} has another structure than the program")
    checkpoints = Checkpoints(folder / "checkpoints", keep=program.config.checkpoint.keep) if folder else None
    best = Best(folder) if folder and keep_best else None
    try:
        run = checkpoints.restore(program) if checkpoints else None
        if run is not None:
            console.say(f"{method.title}, seed {seed}: continuing at step {int(run.state.step)}")
        else:
            run = start or begin(program, seed)
        log = folder if processes.is_first() else None
        titled = f"{method.title}, seed {seed}"
        kept, to = until_epoch is None, program.config.live if until_epoch is None else ""
        writers = Writers(log, run.history, kept, live=to, title=titled) if log else None
        end = program.config.epochs if until_epoch is None else until_epoch
        bar = console.progress(
            titled,
            end * program.steps_per_epoch * program.config.batch_size,
            initial=int(run.state.step) * program.config.batch_size,
        )
        steps, first = program.config.profile.steps, program.config.profile.start_step
        profile = Profile((folder or Path()) / "profile", steps=steps if folder else 0, start_step=first)
        with (
            bar as shown,
            profile.closing(),
            contextlib.closing(writers) if writers else contextlib.nullcontext(),
            contextlib.closing(best) if best else contextlib.nullcontext(),
        ):
            trainer = _Trainer(
                program, method, seed, run, checkpoints, best, writers, stop or Stop(), shown, profile
            )
            while run.epoch < end and not waited_enough(run.history, patience):
                trainer.train_epoch()
            if save_last:
                trainer.save()
        return run
    finally:
        if checkpoints:
            checkpoints.close()


@dataclasses.dataclass
class _Trainer:
    program: Program[Settings]
    method: Method
    seed: int
    run: Run
    checkpoints: Checkpoints | None
    best: Best | None
    writers: Writers | None
    stop: Stop
    shown: console.Progress
    profile: Profile

    def __post_init__(self) -> None:
        self.saved_at, self.asked = time.monotonic(), 0
        self.saving_seconds, self.advised, self.first_epoch = 0.0, False, self.run.epoch
        self.last_good: int | None = self.checkpoints.latest() if self.checkpoints else None

    def train_epoch(self) -> None:
        program, run, config = self.program, self.run, self.program.config
        feed = program.feed("train")
        facts = program.facts(run.statistics, run.counts)
        costs, order = plan_of_epoch(self.method, config, feed.labels, facts, seed=self.seed, epoch=run.epoch)
        on_devices = program.put_costs(costs)
        batches = feed.training(order, seed=self.seed, epoch=run.epoch, start_step=run.step_in_epoch)
        clock = StepClock()
        with contextlib.closing(batches), contextlib.closing(clock):
            for batch in clock.fetching(batches):
                on_device = mesh_lib.put_batch(program.mesh, batch)
                first = not program.traces["step"]
                if first:
                    with clock.paused():
                        self._compile(on_device, on_devices)
                self._step(clock, on_device, on_devices)
                if first:
                    clock.wait()
                    console.say(f"The first step was done {seconds_since_start():.1f} s after the start.")
                if run.step_in_epoch < program.steps_per_epoch:
                    self._between_steps(clock)
            timing = clock.figures(config.batch_size)
            run.seconds += clock.lap()
        self._end_epoch(costs, timing)

    def _compile(self, batch: Any, costs: Any) -> None:
        """Once for all methods and seeds. The jitted step finds what is compiled here."""
        began = time.monotonic()
        with console.working("Compiling the step"):
            compiled = self.program.step.lower(self.run.state, batch, costs).compile()
        console.say(f"The step was compiled in {time.monotonic() - began:.1f} s.")
        console.detail(memory_report(compiled, self.program.mesh.local_devices[0]))
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
        self.shown.advance(self.program.config.batch_size)
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
            counts = program.total_counts(run.state, "holdout", soft=settings.counts == "soft")
        if settings.source != "out_of_fold":  # those stay as they were before the first step
            run.counts = run.counts.plus(counts, decay=settings.decay)
        run.statistics = statistics_of(run.counts, settings, program.costs)
        run.epoch, run.step_in_epoch = run.epoch + 1, 0
        last = run.epoch == program.config.epochs
        if "validation" in program.feeds and (last or run.epoch % program.config.evaluate_every == 0):
            hard = program.evaluate(run.state, "validation")
            entry["validation_accuracy"] = accuracy(hard)
            entry["validation_mean_class_error"] = mean_class_error(hard)
        self._advise(entry)
        run.history.append(entry)
        if self.writers:
            self.writers.write(entry)
        if self.best:
            self.best.keep(run)
        self._show(entry)
        run.state = program.begin_epoch(run.state)
        if self._agree(0):
            self.save()
        self._leave_if_asked()

    def _show(self, entry: dict[str, Any]) -> None:
        """The epoch's figures behind the bar, or as a line where there is none."""
        figures = {"loss": f"{entry['loss']:.3f}", "accuracy": f"{entry['accuracy']:.1%}"}
        if "validation_accuracy" in entry:
            figures["validation"] = f"{entry['validation_accuracy']:.1%}"
        figures["step"] = f"{entry['step_ms_p50']:.0f} ms"
        figures["waiting"] = f"{entry['data_wait_share']:.0%}"
        self.shown.note(**figures)
        self.shown.milestone(f"epoch {entry['epoch']} of {self.program.config.epochs}")

    def _costs_beside_steps(self, timing: dict[str, float]) -> dict[str, float]:
        """Waiting for images in the process that waited longest; saving since the last entry; peak memory."""
        permille = processes.largest(round(1000 * timing["data_wait_share"]))
        beside = {"data_wait_share": permille / 1000, "checkpoint_seconds": round(self.saving_seconds, 3)}
        self.saving_seconds = 0.0
        peak = peak_memory(self.program.mesh.local_devices)
        return beside if peak is None else beside | {"peak_memory_bytes": peak}

    def _advise(self, entry: dict[str, Any]) -> None:
        """Once, and not by an epoch in which the loader and the caches were still cold."""
        feed, settings = self.program.feed("train"), self.program.config.data
        if not feed.prepares_images:  # nothing to read or decode: such steps are just short
            return
        advice = input_advice(entry, num_threads=settings.num_threads, in_memory=feed.in_memory)
        if advice and not self.advised and entry["epoch"] > self.first_epoch + 1:
            self.advised = True
            self.shown.warn(advice)

    def _agree(self, step_in_epoch: int) -> bool:
        """Whether all processes save here; a signal that reached one of them is then known to all."""
        if jax.process_count() > 1 and step_in_epoch % _AGREE_EVERY:
            return False
        self.asked = processes.largest(self.stop.signal_number or 0)
        due = time.monotonic() - self.saved_at >= self.program.config.checkpoint.every_seconds
        return bool(self.asked) or bool(processes.largest(due and self.checkpoints is not None))

    def _figures(self, costs: Any, counts: Confusion) -> dict[str, Any]:
        """The epoch's log entry: averages, and the realised share of the most confused pairs by name."""
        run, names = self.run, self.program.dataset.classes.names
        values = {name: np.asarray(value) for name, value in compute(run.state.metrics).items()}
        shares = values.pop("watched_share")
        step = int(run.state.step)
        return {
            "epoch": run.epoch + 1,
            "step": step,
            **{name: float(value) for name, value in values.items()},
            "mean_class_error": mean_class_error(counts),
            "learning_rate": float(self.program.schedule(step * self.program.updates - 1)),
            "triplet_weight": float(costs.triplet_weight),
            **weights_of_epoch(costs, run.statistics, shares, names),
        }

    def _check_finite(self) -> None:
        bad = int(self.run.state.first_bad_step)
        if bad != NO_STEP:
            kept = "none was saved" if self.last_good is None else f"step {self.last_good}"
            raise UserError(
                f"the loss of step {bad} is not finite (learning rate "
                f"{float(self.program.schedule(bad * self.program.updates)):.3g}); last good checkpoint: "
                f"{kept}. Lower optimizer.learning_rate, or raise optimizer.warmup_share"
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
