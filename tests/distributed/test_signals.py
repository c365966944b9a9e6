"""The first signal lets a step end, the second ends at once; a terminal that is gone does no harm."""

import os
import pty
import signal
import sys

import pytest

from cdml_jax.cli.output import careful_output
from cdml_jax.distributed.signals import Stop

SAID = "cdml: stopping after this step and saving; once more to stop at once\n"


@pytest.fixture(autouse=True)
def _hang_up_is_not_ignored():
    """As it is where `nohup` started the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def terminal(monkeypatch):
    """Standard output and error on a terminal, and what closes it."""
    master, slave = pty.openpty()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, os.fdopen(os.dup(slave), "w", buffering=1))
    os.close(slave)
    return lambda: os.close(master)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_answered_at_once_and_noted(capfd, number):
    with Stop().listening() as stop:
        os.kill(os.getpid(), number)
        assert stop.signal_number == number
        assert capfd.readouterr().err == SAID


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_ends_at_once(first, second):
    with Stop().listening() as stop:
        os.kill(os.getpid(), first)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), second)
        assert stop.signal_number == first


def test_a_second_hang_up_lets_the_step_end():
    with Stop().listening() as stop:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)
        assert stop.signal_number == signal.SIGHUP


def test_under_nohup_a_hang_up_is_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop().listening() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signal_number is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("order", ["signal first", "print first"])
def test_printing_to_a_terminal_that_is_gone_does_not_end_a_run(terminal, order):
    with careful_output(), Stop().listening() as stop:
        print("epoch 1")
        terminal()
        if order == "print first":
            print("epoch 2")
        os.kill(os.getpid(), signal.SIGHUP)
        print("epoch 3")
        print("epoch 3", file=sys.stderr)
        assert stop.signal_number == signal.SIGHUP


def test_handlers_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with Stop().listening():
        pass
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
