"""How long steps take, how long the devices wait for images, what saving costs, without holding steps up."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Item = TypeVar("Item")

# What `StepClock.figures` and the loop put into an epoch's entry: it differs from run to run.
TIMING_KEYS = frozenset(
    {
        "seconds",
        "images_per_second",
        "step_ms_p50",
        "step_ms_p90",
        "step_ms_p99",
        "step_ms_max",
        "data_wait_share",
        "checkpoint_seconds",
        "peak_memory_bytes",
    }
)
BOTTLENECK = 0.2  # share of an epoch that the devices wait for images, above which one line says so

_AHEAD = 2  # steps dispatched beyond the one that runs: their batches lie in device memory
_copy = jax.jit(jnp.copy)
_IMPORTED = time.monotonic()


class StepClock:
    """The times of one epoch's steps.

    A step is dispatched before the one before it is done, and its input is donated to the next. So each
    step's number is copied on the first local device, and a thread notes when the copy is there: the
    moment when the step was done, known without waiting for it here.
    """

    def __init__(self) -> None:
        self._watcher = ThreadPoolExecutor(1, "step-clock")
        self._fetched: list[tuple[float, float]] = []
        self._done: list[Future[float]] = []
        self._paused = self._lapped = 0.0
        self._began = time.monotonic()

    def _now(self) -> float:
        return time.monotonic() - self._began - self._paused

    def fetching(self, batches: Iterable[Item]) -> Iterator[Item]:
        """The batches; notes when each was asked for and when it came."""
        iterator = iter(batches)
        while True:
            asked = self._now()
            with jax.profiler.TraceAnnotation("next batch"):
                batch = next(iterator, None)
            if batch is None:
                return
            self._fetched.append((asked, self._now()))
            yield batch

    def stepped(self, step: jax.Array) -> None:
        """A step was dispatched; `step` is an array that it computes. Waits while too many are under way."""
        copied = _copy(step.addressable_data(0))
        self._done.append(self._watcher.submit(lambda: (copied.block_until_ready(), self._now())[1]))
        if len(self._done) > _AHEAD:
            self._done[-1 - _AHEAD].result()

    def wait(self) -> None:
        """Return when every dispatched step is done."""
        if self._done:
            self._done[-1].result()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside is no part of the times: it begins when every dispatched step is done."""
        self.wait()
        began = time.monotonic()
        try:
            yield
        finally:
            self._paused += time.monotonic() - began

    def lap(self) -> float:
        """Seconds up to the end of the last step since the last call, pauses left out."""
        before, self._lapped = self._lapped, self._done[-1].result() if self._done else 0.0
        return self._lapped - before

    def figures(self, batch_size: int) -> dict[str, float]:
        """Times of the steps so far, at least one.

        A step's time is that between its end and the end of the step before it. The devices wait for images
        from when both the batch was asked for and the step before was done, until it came.
        """
        done = np.array([future.result() for future in self._done])
        asked, came = np.array(self._fetched[: len(done)]).T
        before = np.concatenate([[0.0], done[:-1]])
        waited = np.maximum(came - np.maximum(asked, before), 0).sum()
        p50, p90, p99, longest = 1e3 * np.percentile(done - before, (50, 90, 99, 100))
        seconds = max(done[-1], 1e-9)
        return {
            "seconds": round(seconds, 3),
            "images_per_second": round(len(done) * batch_size / seconds, 1),
            "step_ms_p50": round(p50, 3),
            "step_ms_p90": round(p90, 3),
            "step_ms_p99": round(p99, 3),
            "step_ms_max": round(longest, 3),
            "data_wait_share": round(min(waited / seconds, 1.0), 4),
        }

    def close(self) -> None:
        """End the thread."""
        self._watcher.shutdown(wait=False)


def seconds_since_start() -> float:
    """Since this process started, before its imports; where the system does not tell, since this one's."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return time.monotonic() - _IMPORTED


def peak_memory(devices: Sequence[jax.Device]) -> int | None:
    """Bytes that the fullest of the devices has held so far; None where the backend does not count (CPU)."""
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in devices]
    return max((peak for peak in peaks if peak is not None), default=None)


def input_advice(entry: dict[str, Any], *, num_threads: int, in_memory: bool) -> str | None:
    """A line that says what to do, if the input held up an epoch of a second or more; else None."""
    if entry["data_wait_share"] <= BOTTLENECK or entry["seconds"] < 1:
        return None
    cores = os.cpu_count() or 1
    advice = [f"raise data.num_threads (now {num_threads}, of {cores} cores)"] if num_threads < cores else []
    if in_memory:
        advice.append("choose a cheaper augmentation (image.jitter)")
    else:
        advice.append("raise data.cache_bytes until decoded images stay in memory")
        advice.append("store smaller images")
    return (
        f"the input is the bottleneck: the devices waited for images during {entry['data_wait_share']:.0%} "
        f"of epoch {entry['epoch']}; {', or '.join(advice)}"
    )


def summary(history: Sequence[dict[str, Any]]) -> str:
    """Images a second, the share of waiting, time of saving, peak memory: one line about a whole run.

    >>> one = {"seconds": 8.0, "images_per_second": 50.0, "data_wait_share": 0.25, "checkpoint_seconds": 2.0}
    >>> summary([one, one | {"images_per_second": 70.0, "checkpoint_seconds": 0.0}])
    '60.0 images/s, 25.0 % of it waiting for images; saving took 2.0 s of 18.0 s'
    """
    timed = [entry for entry in history if "seconds" in entry]
    seconds = sum(entry["seconds"] for entry in timed)
    if not seconds:
        return "no step was timed"
    images = sum(entry["images_per_second"] * entry["seconds"] for entry in timed)
    waited = sum(entry["data_wait_share"] * entry["seconds"] for entry in timed)
    saving = sum(entry["checkpoint_seconds"] for entry in timed)
    peaks = [entry["peak_memory_bytes"] for entry in timed if "peak_memory_bytes" in entry]
    memory = f"; peak memory {max(peaks) / 2**30:.2f} GiB a device" if peaks else ""
    return (
        f"{images / seconds:.1f} images/s, {100 * waited / seconds:.1f} % of it waiting for images; "
        f"saving took {saving:.1f} s of {seconds + saving:.1f} s{memory}"
    )
