"""What a step needs, and traces that are recorded once, at the steps that were asked for."""

import re

import jax
import jax.numpy as jnp
import pytest

from cdml_jax.configuration.settings import changed
from cdml_jax.methods import METHODS
from cdml_jax.runs import loop
from cdml_jax.runs.profiling import Profile, memory_report
from cdml_jax.system import console
from cdml_jax.training.program import Program


@pytest.fixture
def program(config, dataset):
    config = changed(config, {"profile.steps": 3, "profile.start_step": 9})
    return Program(config, dataset, devices=jax.devices()[:1])


def steps_in(folder):
    """Numbers of the steps that a trace has, in order of time."""
    (file,) = folder.rglob("*.xplane.pb")
    trace = jax.profiler.ProfileData.from_file(str(file))
    events = [event for plane in trace.planes for line in plane.lines for event in line.events]
    steps = [(e.start_ns, dict(e.stats)["step_num"]) for e in events if e.name == "train"]
    return [number for _, number in sorted(steps)]


def test_a_trace_has_the_steps_asked_for_and_says_how_to_open_it(program, tmp_path, capsys):
    loop.fit(program, METHODS["cdml"], 0, folder=tmp_path)
    assert program.steps_per_epoch == 7  # the trace begins in the second epoch
    assert steps_in(tmp_path / "profile") == [9, 10, 11]
    said = capsys.readouterr().out
    assert f"tensorboard --logdir={tmp_path / 'profile'}" in said
    (opened,) = re.findall(r"open (\S+\.trace\.json\.gz) in https://ui\.perfetto\.dev", said)
    assert opened.startswith(str(tmp_path))


def test_a_run_that_is_continued_behind_its_trace_records_no_other(program, tmp_path):
    loop.fit(program, METHODS["cdml"], 0, folder=tmp_path, until_epoch=2, save_last=True)
    before = sorted((tmp_path / "profile").rglob("*"))
    loop.fit(program, METHODS["cdml"], 0, folder=tmp_path)
    assert sorted((tmp_path / "profile").rglob("*")) == before


def test_a_run_that_ends_inside_its_trace_leaves_what_it_has(program, tmp_path):
    program.config = changed(program.config, {"profile.steps": 100, "profile.start_step": 25})
    loop.fit(program, METHODS["cdml"], 0, folder=tmp_path)
    assert steps_in(tmp_path / "profile") == [25, 26, 27]


def test_nothing_is_recorded_unless_asked(config, dataset, tmp_path):
    loop.fit(Program(config, dataset, jax.devices()[:1]), METHODS["cdml"], 0, folder=tmp_path, until_epoch=1)
    assert not (tmp_path / "profile").exists()


def test_no_trace_without_a_folder_or_steps(tmp_path):
    assert not any(Profile(tmp_path, steps=0, start_step=4).begins(step) for step in range(9))
    assert [s for s in range(9) if Profile(tmp_path, steps=2, start_step=4).begins(s)] == [4]


def test_the_memory_of_a_step_is_reported_once_for_all_rows_and_without_a_second_compilation(
    config, dataset, capsys, monkeypatch
):
    events = []

    def note(event, _seconds, **_):
        events.append(event)

    monkeypatch.setattr(console, "_verbosity", console.Verbosity.VERBOSE)
    program = Program(config, dataset, jax.devices()[:1])
    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        loop.fit(program, METHODS["cdml"], 0, until_epoch=1)
        first = sum(event.endswith("backend_compile_duration") for event in events)
        loop.fit(program, METHODS["baseline"], 1, until_epoch=1)
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    assert first
    assert sum(event.endswith("backend_compile_duration") for event in events) == first
    assert program.traces["step"] == 1
    said = capsys.readouterr().out
    assert said.count("memory per device: arguments") == 1


def test_memory_is_that_of_the_arrays_with_donated_ones_counted_once():
    step = jax.jit(lambda state, rows: (state + rows.sum(), rows * 2), donate_argnums=0)
    state, rows = jnp.zeros((256, 1024)), jnp.zeros((512, 1024))  # 1 MiB and 2 MiB
    report = memory_report(step.lower(state, rows).compile(), jax.devices()[0])
    assert "arguments 3.0 MiB, outputs 2.0 MiB" in report
    assert re.search(r"together 5\.\d MiB$", report)


def test_memory_of_a_device_stands_beside_what_it_has():
    class Device:
        def memory_stats(self):
            return {"bytes_limit": 80 << 30}

    compiled = jax.jit(jnp.sin).lower(jnp.zeros(8)).compile()
    assert memory_report(compiled, Device()).endswith(" of 80.0 GiB")
