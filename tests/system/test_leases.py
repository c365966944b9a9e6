"""A lock in a bucket keeps two runs apart, outlives its holder for a while only, and does not pretend."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from cdml_jax.errors import UserError
from cdml_jax.system import buckets, files, leases

LOCK = "gs://bucket/run/.lock"
HOLD = """
import sys, time
from cdml_jax.system import files, leases
leases.SIGN_SECONDS = 0.1
with files.locked(sys.argv[1], "busy"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def objects(stand_in, bucket, monkeypatch):
    monkeypatch.setattr(leases, "SIGN_SECONDS", 0.1)
    monkeypatch.setattr(leases, "SILENT_SECONDS", 0.6)
    stand_in.buckets["bucket"].clear()
    return stand_in.buckets["bucket"]


def put(objects, content, generation=None):
    """An object as another process would write it."""
    objects["run/.lock"] = (generation or objects.get("run/.lock", (10**6,))[0] + 1, content.encode())


def test_a_second_holder_is_refused_and_the_first_one_named(objects):
    with files.locked(LOCK, "in use by another run"):
        first = objects["run/.lock"][0]
        with pytest.raises(UserError, match=r"^in use by another run \(process \d+ on \S+, since 20\d\d-"):
            files.locked(LOCK, "in use by another run").__enter__()
        assert objects["run/.lock"][0] > first  # the signs of life
    assert not objects
    with files.locked(LOCK, "in use by another run"):
        assert json.loads(objects["run/.lock"][1])["process"]


def test_another_process_keeps_it_until_it_is_killed_and_silent(objects, capsys):
    command = [sys.executable, "-c", HOLD, LOCK]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            with pytest.raises(UserError, match=rf"^busy \(process {other.pid} on "):
                files.locked(LOCK, "busy").__enter__()
        finally:
            other.send_signal(signal.SIGKILL)
    began = time.monotonic()
    with files.locked(LOCK, "busy"):
        assert time.monotonic() - began > 0.6
        assert json.loads(objects["run/.lock"][1])["process"] != other.pid
    said = capsys.readouterr()
    assert "waiting up to 1 s for a sign of life" in said.out
    assert f"process {other.pid} on" in said.err
    assert "gave no sign of life: this run takes its place" in said.err


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "elsewhere"}'])
def test_what_is_no_lease_keeps_nobody_out_for_ever(objects, content):
    put(objects, content)
    with files.locked(LOCK, "busy"):
        assert "token" in json.loads(objects["run/.lock"][1])
    assert not objects


def test_of_two_that_wait_for_a_silent_holder_one_gets_it(objects):
    put(objects, '{"host": "gone"}')
    ended, holding, most, refused = threading.Event(), [], [], []

    def hold():
        try:
            with files.locked(LOCK, "busy"):
                holding.append(1)
                most.append(len(holding))
                ended.wait(5)
                holding.pop()
        except UserError as error:
            refused.append(str(error))

    both = [threading.Thread(target=hold) for _ in range(2)]
    for thread in both:
        thread.start()
    end = time.monotonic() + 20
    while not refused and time.monotonic() < end:
        time.sleep(0.05)
    ended.set()
    for thread in both:
        thread.join()
    assert most == [1]
    assert len(refused) == 1


def test_who_waits_gets_it_once_it_is_free():
    got = []

    def wait():
        with files.locked(LOCK, None):
            got.append(time.monotonic())

    with files.locked(LOCK, "busy"):
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(1.0)
        assert not got
        freed = time.monotonic()
    waiting.join(10)
    assert got[0] > freed


def test_a_lost_lease_is_said_and_the_other_ones_object_stays(objects, capsys):
    with files.locked(LOCK, "busy"):
        put(objects, json.dumps({"host": "elsewhere", "process": 7, "since": "now", "token": "other"}))
        time.sleep(0.5)
    error = capsys.readouterr().err
    assert error.count("no longer this run's, but held by process 7 on elsewhere") == 1
    assert "end one of the two" in error
    assert json.loads(objects["run/.lock"][1])["process"] == 7


def test_a_write_whose_answer_was_lost_is_known_again(stand_in, objects, capsys):
    stand_in.lost = 1
    with files.locked(LOCK, "busy"):
        stand_in.lost = 1
        time.sleep(0.5)
    assert not objects
    assert "no longer" not in capsys.readouterr().err


def test_while_the_network_is_away_nothing_is_lost(stand_in, objects, capsys):
    with files.locked(LOCK, "busy"):
        stand_in.refused["upload"] = 400
        time.sleep(0.4)
        stand_in.refused.clear()
        time.sleep(0.3)
        assert objects
    assert not objects
    assert capsys.readouterr().err == ""


def test_rights_that_orbax_needs_are_asked_for_at_once(stand_in):
    stand_in.refused["GET .*/b/bucket$"] = 403
    buckets.refuse_without_rights.cache_clear()
    try:
        with pytest.raises(
            UserError, match=r"^gs://bucket: this account may not use it .*legacyBucketReader"
        ):
            files.locked(LOCK, "busy").__enter__()
    finally:
        stand_in.refused.clear()
