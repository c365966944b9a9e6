"""What is printed where, at each verbosity, and that progress never falls silent."""

import itertools
import time

import pytest

from cdml_jax.system import console
from cdml_jax.system.console import Verbosity


@pytest.fixture(autouse=True)
def normal():
    yield
    console.set_verbosity(Verbosity.NORMAL)


@pytest.mark.parametrize(
    ("verbosity", "expected"),
    [
        (Verbosity.QUIET, ["result"]),
        (Verbosity.NORMAL, ["result", "said"]),
        (Verbosity.VERBOSE, ["result", "said", "detail"]),
    ],
)
def test_what_each_verbosity_prints(capsys, verbosity, expected):
    console.set_verbosity(verbosity)
    console.result("result")
    console.say("said")
    console.detail("detail")
    console.warn("careful")
    out, err = capsys.readouterr()
    assert out.split() == expected
    assert err == "cdml: careful\n"


def test_another_process_than_the_first_prints_nothing(capsys, monkeypatch):
    monkeypatch.setattr("jax.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("jax.process_index", lambda: 1)
    console.result("result")
    console.warn("careful")
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def clock(monkeypatch):
    """Each look at the clock is a second later."""
    seconds = itertools.count()
    monkeypatch.setattr("time.monotonic", lambda: float(next(seconds)))


def test_away_from_a_terminal_progress_is_a_line_now_and_then(capsys, clock):
    with console.progress("Checking images", 100) as progress:
        for _ in range(100):
            progress.advance()
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 6
    assert lines[0].startswith("Checking images: 5 of 100 images, ")
    assert lines[0].endswith(" left")


def test_short_work_prints_nothing(capsys):
    assert list(console.progressing([1, 2], "Checking images", 2)) == [1, 2]
    with console.working("Compiling"):
        pass
    assert capsys.readouterr() == ("", "")


def test_quiet_progress_prints_nothing(capsys, clock):
    console.set_verbosity(Verbosity.QUIET)
    list(console.progressing(range(100), "Checking images", 100))
    assert capsys.readouterr() == ("", "")


def test_a_line_says_what_is_done_how_fast_and_how_long_is_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = console.Progress("Training", 1000, "images", 100)
    now[0] = 10.0
    progress.done = 300
    progress.note(loss="1.25")
    assert progress.line() == "Training: 300 of 1,000 images, 20 a second, 35 s left, loss 1.25"


def test_long_work_of_unknown_length_is_heard(capsys, monkeypatch):
    monkeypatch.setattr(console, "_FIRST_LINE_SECONDS", 0.02)
    with console.working("Compiling the step"):
        time.sleep(0.3)
    assert capsys.readouterr().err == "Compiling the step: 0 s so far\n"


def test_a_milestone_is_a_line_with_the_time_left_and_the_figures(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = console.Progress("CDML, seed 0", 100, "images", 0)
    now[0], progress.done = 60.0, 40
    progress.note(loss="1.25", validation="75.0%")
    progress.milestone("epoch 4 of 10")
    expected = "CDML, seed 0: epoch 4 of 10, 1 min 30 s left, loss 1.25, validation 75.0%\n"
    assert capsys.readouterr().err == expected


NASTY = "\x1b[2J \x1b]0;title\x07 \x9b31m a\rb \u202e c\u2028d \x7f"


def test_nothing_that_is_printed_acts_on_a_terminal(capsys):
    console.result(f"{NASTY}\n\tnext")
    console.warn(NASTY)
    with console.progress(NASTY, 3) as shown:
        shown.note(loss=NASTY)
        shown.milestone(NASTY)
        shown.say(NASTY)
        shown.warn(NASTY)
    out, err = capsys.readouterr()
    for text in (out, err):
        assert not set(text) & set("\x1b\x07\x9b\r\u202e\u2028\x7f")
    assert out.endswith("\n\tnext\n")
    assert err.count("\n") == 4
    assert "\\x1b]0;title\\x07 \\x9b31m a\\rb \\u202e c\\u2028d \\x7f" in out


def test_letters_of_every_language_are_printed_as_they_are(capsys):
    console.result("café 鴉 عربي 👩\u200d🔬 \xa0")
    assert capsys.readouterr().out == "café 鴉 عربي 👩\u200d🔬 \xa0\n"
    assert console.escaped("鴉\n\t\x1b") == "鴉\\n\\t\\x1b"
