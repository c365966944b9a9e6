"""What the compiled step needs, and a trace of some steps for TensorBoard or Perfetto."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
from etils.epath import Path

from cdml_jax.system import buckets, console, files
from cdml_jax.system.buckets import in_bucket


def size(number: float) -> str:
    """Bytes as a person reads them.

    >>> size(512), size(45_097_156), size(79.1 * 2**30)
    ('512 B', '43.0 MiB', '79.1 GiB')
    """
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def memory_report(compiled: jax.stages.Compiled, device: jax.Device) -> str:
    """What a compiled step needs on each device, as XLA planned it, and what the device has.

    Donated arguments are counted once, though the outputs take their place.
    """
    planned = compiled.memory_analysis()
    if planned is None:
        return "XLA does not report its memory here"
    parts = {
        "arguments": planned.argument_size_in_bytes,
        "outputs": planned.output_size_in_bytes - planned.alias_size_in_bytes,
        "temporaries": planned.temp_size_in_bytes,
        "code": planned.generated_code_size_in_bytes,
    }
    limit = (device.memory_stats() or {}).get("bytes_limit")
    listed = ", ".join(f"{name} {size(number)}" for name, number in parts.items())
    has = f" of {size(limit)}" if limit else ""
    return f"memory per device: {listed}; together {size(sum(parts.values()))}{has}"


class Profile:
    """A trace of `steps` steps from the step `start_step` on, written into `folder`.

    A run that is continued behind `start_step` records nothing.
    """

    def __init__(self, folder: Path, *, steps: int, start_step: int):
        self.folder = folder
        self._first, self._end = start_step, start_step + steps
        self._recording = False

    def begins(self, step: int) -> bool:
        """Whether the trace is to begin before `step`."""
        return step == self._first < self._end

    def ends(self, step: int) -> bool:
        """Whether the trace is to end before `step`."""
        return self._recording and step == self._end

    def start(self) -> None:
        """Begin; steps that are under way should be done."""
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # every Python call, which would slow the loader's threads down
        # XLA writes to disks alone: a trace that goes to a bucket is uploaded at its end.
        self._local = tempfile.TemporaryDirectory() if in_bucket(self.folder) else None
        place = self._local.name if self._local else self.folder
        jax.profiler.start_trace(place, profiler_options=options)
        self._recording = True

    def stop(self) -> None:
        """Write what was recorded and say where; without a trace that has begun, nothing."""
        if not self._recording:
            return
        self._recording = False
        jax.profiler.stop_trace()
        if self._local:
            with files.writing(self.folder):
                buckets.upload_folder(self._local.name, self.folder)
            self._local.cleanup()
        traces = _traces(self.folder)
        console.say(
            f"Profile: tensorboard --logdir={self.folder} (pip install tensorboard xprof)"
            + (f", or open {traces[-1]} in https://ui.perfetto.dev" if traces else "")
        )

    @contextlib.contextmanager
    def closing(self) -> Iterator[Profile]:
        """Ends a trace that a run leaves in the middle."""
        try:
            yield self
        finally:
            self.stop()


def _traces(folder: Path) -> list[Path]:
    """Traces that can be opened in a browser, by `plugins/profile/TIME/`; the last is the newest."""
    runs = files.entries(folder / "plugins" / "profile")
    return [file for run in runs for file in files.entries(run) if file.name.endswith(".trace.json.gz")]


def annotated(step: int) -> Any:
    """Marks what happens inside as one step of training, in whatever trace is being recorded."""
    return jax.profiler.StepTraceAnnotation("train", step_num=step)
