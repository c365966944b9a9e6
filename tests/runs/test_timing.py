"""Times of steps against steps of known length: the device is a thread that sleeps."""

import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest

from cdml_jax.runs import timing
from cdml_jax.runs.timing import StepClock, input_advice, peak_memory, summary

STEP, SHORT = 0.05, 0.01


class Device:
    """Runs one step after another, each for so long, as an accelerator does behind its queue."""

    def __init__(self, monkeypatch):
        self.free_at = 0.0
        monkeypatch.setattr(timing, "_copy", lambda pending: pending)

    def step(self, seconds):
        self.free_at = max(self.free_at, time.monotonic()) + seconds
        return Pending(self.free_at)


class Pending:
    def __init__(self, ready_at):
        self._ready_at = ready_at

    def addressable_data(self, _index):
        return self

    def block_until_ready(self):
        time.sleep(max(self._ready_at - time.monotonic(), 0))


@pytest.fixture
def device(monkeypatch):
    return Device(monkeypatch)


def slow(seconds):
    for index, wait in enumerate(seconds):
        time.sleep(wait)
        yield index


def run(device, fetches, steps, pause=None):
    clock = StepClock()
    for index in clock.fetching(slow(fetches)):
        clock.stepped(device.step(steps[index]))
        if index == pause:
            with clock.paused():
                time.sleep(0.2)
    figures = clock.figures(batch_size=10)
    clock.close()
    return figures


def test_percentiles_are_those_of_the_steps(device):
    lengths = [STEP] * 9 + [3 * STEP]
    figures = run(device, [0] * 10, lengths)
    assert figures["step_ms_p50"] == pytest.approx(1e3 * STEP, rel=0.3)
    assert figures["step_ms_max"] == pytest.approx(3e3 * STEP, rel=0.3)
    assert (
        figures["step_ms_p50"] <= figures["step_ms_p90"] <= figures["step_ms_p99"] <= figures["step_ms_max"]
    )
    assert figures["seconds"] == pytest.approx(sum(lengths), rel=0.2)
    assert figures["images_per_second"] == pytest.approx(100 / sum(lengths), rel=0.2)


def test_fetching_behind_a_running_step_is_no_waiting(device):
    figures = run(device, [0] + [0.6 * STEP] * 9, [STEP] * 10)
    assert figures["data_wait_share"] < 0.15


def test_the_devices_wait_for_what_fetching_takes_longer_than_a_step(device):
    figures = run(device, [STEP] * 10, [SHORT] * 10)
    # The first batch is waited for in full, the others for the rest of the time after a step.
    expected = (STEP + 9 * (STEP - SHORT)) / (10 * STEP + SHORT)
    assert figures["data_wait_share"] == pytest.approx(expected, abs=0.1)
    assert figures["step_ms_p50"] == pytest.approx(1e3 * STEP, rel=0.3)


def test_a_pause_is_no_part_of_any_step(device):
    figures = run(device, [0] * 10, [STEP] * 10, pause=4)
    assert figures["seconds"] == pytest.approx(10 * STEP, rel=0.25)
    assert figures["step_ms_max"] < 1e3 * (STEP + 0.1)


def test_steps_are_dispatched_ahead_but_not_without_bound(device):
    clock, began = StepClock(), time.monotonic()
    dispatched = []
    for _ in clock.fetching(range(6)):
        clock.stepped(device.step(STEP))
        dispatched.append(time.monotonic() - began)
    clock.close()
    assert dispatched[1] < 0.8 * STEP
    assert dispatched[5] >= 3 * STEP


def test_laps_add_up_to_the_whole(device):
    clock = StepClock()
    laps = []
    for index in clock.fetching(range(4)):
        clock.stepped(device.step(STEP))
        if index == 1:
            with clock.paused():
                laps.append(clock.lap())
    laps.append(clock.lap())
    assert sum(laps) == pytest.approx(clock.figures(1)["seconds"], abs=2e-3)
    assert laps[0] == pytest.approx(2 * STEP, rel=0.3)
    clock.close()


def test_a_real_array_is_watched_though_it_is_donated_afterwards():
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    clock, step = StepClock(), add(jnp.int32(0))
    for _ in clock.fetching(range(5)):
        step = add(step)
        clock.stepped(step)
    clock.wait()
    assert clock.figures(1)["seconds"] > 0
    clock.close()
    assert int(step) == 6


def test_closing_ends_the_thread():
    clock = StepClock()
    for _ in clock.fetching(range(2)):
        clock.stepped(jnp.int32(1))
    (thread,) = clock._watcher._threads
    assert thread.is_alive()
    clock.close()
    clock._watcher.shutdown(wait=True)
    assert not thread.is_alive()


ENTRY = {"epoch": 3, "seconds": 30.0, "data_wait_share": 0.43}


@pytest.mark.parametrize(
    ("threads", "in_memory", "says", "does_not"),
    [
        (2, False, "raise data.num_threads (now 2, of 16 cores), or raise data.cache_bytes", "jitter"),
        (
            2,
            True,
            "raise data.num_threads (now 2, of 16 cores), or choose a cheaper augmentation",
            "cache_bytes",
        ),
        (16, False, "raise data.cache_bytes", "num_threads"),
    ],
)
def test_the_advice_fits_the_reader(monkeypatch, threads, in_memory, says, does_not):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    advice = input_advice(ENTRY, num_threads=threads, in_memory=in_memory)
    assert "waited for images during 43% of epoch 3" in advice
    assert says in advice
    assert does_not not in advice
    assert "\n" not in advice


@pytest.mark.parametrize(
    "change", [{"data_wait_share": 0.2}, {"seconds": 0.9}], ids=["fast enough", "too short"]
)
def test_no_advice_where_none_is_needed(change):
    assert input_advice(ENTRY | change, num_threads=1, in_memory=False) is None


def test_the_summary_weighs_epochs_by_their_time():
    history = [
        {"seconds": 30.0, "images_per_second": 10.0, "data_wait_share": 0.4, "checkpoint_seconds": 0.0},
        {"seconds": 10.0, "images_per_second": 50.0, "data_wait_share": 0.0, "checkpoint_seconds": 0.8},
    ]
    assert summary(history) == "20.0 images/s, 30.0 % of it waiting for images; saving took 0.8 s of 40.8 s"
    history[0]["peak_memory_bytes"] = 3 << 30
    assert summary(history).endswith("; peak memory 3.00 GiB a device")
    # An entry of a run that an earlier version began has no times.
    assert summary([{"epoch": 1, "images_per_second": 3.0}, *history]) == summary(history)


def test_peak_memory_is_the_fullest_devices():
    class Counting:
        def __init__(self, stats):
            self.memory_stats = lambda: stats

    assert peak_memory([Counting({"peak_bytes_in_use": 5}), Counting({"peak_bytes_in_use": 9})]) == 9
    assert peak_memory([Counting(None), Counting({"bytes_in_use": 1})]) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system tells it")
def test_the_seconds_since_the_start_include_what_came_before_this_module():
    code = "import time\ntime.sleep(0.3)\nfrom cdml_jax.runs import timing\nprint(timing.%s())"
    code %= timing.seconds_since_start.__name__
    began = time.monotonic()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.3 < float(run.stdout) < time.monotonic() - began + 0.02  # a tick is 0.01 s


def test_training_is_loaded_without_what_draws_and_counts_for_reports():
    code = "import sys; from cdml_jax.cli.actions import train; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "scipy.stats", "scipy.optimize", "sklearn", "tensorflow"} & set(
        run.stdout.split()
    )
