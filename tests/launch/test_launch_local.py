"""Local processes: really run, with a command that counts in place of cdml."""

import signal
import time

import pytest

RUN = ("train", "--config=demo", "--workdir=run")


def wait_for_lines(process, wanted):
    """Lines until there is one that ends with each of `wanted`."""
    lines = []
    while not all(any(line.endswith(end) for line in lines) for end in wanted):
        line = process.stdout.readline()
        assert line, lines
        lines.append(line.rstrip("\n"))
    return lines


def test_dry_run_prints_one_command_for_each_process(launch):
    result = launch("local.sh", *RUN, DRY_RUN=1, CDML_PORT=12345)
    start = "env -u CDML_DISTRIBUTED CDML_COORDINATOR=127.0.0.1:12345 CDML_NUM_PROCESSES=2"
    assert result.stdout.splitlines() == [
        f"{start} CDML_PROCESS_ID=0 cdml train --config=demo --workdir=run",
        f"{start} CDML_PROCESS_ID=1 cdml train --config=demo --workdir=run",
    ]


def test_gpus_are_shared_out(launch):
    result = launch("local.sh", *RUN, DRY_RUN=1, CDML_PROCESSES=2, CDML_GPUS=8)
    assert [line.split("CUDA_VISIBLE_DEVICES=")[1].split()[0] for line in result.stdout.splitlines()] == [
        "0,1,2,3",
        "4,5,6,7",
    ]


@pytest.mark.parametrize(
    ("variables", "arguments", "said"),
    [
        ({}, (), "give cdml's arguments"),
        ({}, ("train", "--config=demo"), "--workdir is not given"),
        ({"CDML_PROCESSES": "0"}, RUN, "CDML_PROCESSES is 0: it must be a whole number from 1 on"),
        ({"CDML_PROCESSES": "two"}, RUN, "CDML_PROCESSES is two"),
        ({"CDML_PROCESSES": "3", "CDML_GPUS": "8"}, RUN, "must be a multiple of CDML_PROCESSES (3)"),
        ({"CDML_COMMAND": "no-such-command"}, RUN, "there is no command no-such-command"),
    ],
)
def test_mistakes_are_refused(launch, variables, arguments, said):
    assert said in launch.refused("local.sh", *arguments, **variables)


def test_processes_know_each_other_and_their_lines_are_named(launch):
    launch.fake(
        "cdml", 'echo "$CDML_PROCESS_ID of $CDML_NUM_PROCESSES at $CDML_COORDINATOR"; printf "no end"'
    )
    result = launch("local.sh", *RUN, CDML_PROCESSES=3, CDML_PORT=23456)
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    for process in range(3):
        assert f"[{process}] {process} of 3 at 127.0.0.1:23456" in lines
        assert f"[{process}] no end" in lines
    assert launch.calls("cdml") == ["cdml train --config=demo --workdir=run"] * 3


def test_one_that_fails_ends_the_others_with_its_message(launch, counting):
    launch.fake(
        "cdml",
        f"""if [[ $CDML_PROCESS_ID == 1 ]]; then sleep 0.5; echo "the disk is full" >&2; exit 3; fi
exec {counting} "$@" """,
    )
    began = time.monotonic()
    result = launch("local.sh", *RUN)
    assert time.monotonic() - began < 10
    assert result.returncode == 3
    assert "[1] the disk is full" in result.stdout
    assert "[0] saved at" in result.stdout
    assert "process 1 ended with status 3; ending the others" in result.stderr


def test_one_that_hangs_is_killed(launch):
    launch.fake(
        "cdml", 'if [[ $CDML_PROCESS_ID == 1 ]]; then exit 2; fi; trap "" TERM; while :; do sleep 0.1; done'
    )
    result = launch("local.sh", *RUN, CDML_GRACE=1)
    assert result.returncode == 2
    assert "process 0 did not end within 1 s: killed" in result.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_reaches_all_and_the_same_command_continues(launch, counting, number, status):
    process = launch.start("local.sh", *RUN, CDML_COMMAND=counting, STEP_SECONDS=0.05)
    wait_for_lines(process, ["[0] beginning", "[1] beginning"])
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == status
    assert out.count("saved at") == 2
    assert err == ""

    (launch.folder / "run" / "count.0").write_text("7\n")
    result = launch("local.sh", *RUN, CDML_COMMAND=counting, STEPS=7, STEP_SECONDS=0)
    assert result.returncode == 0
    assert "[0] continuing at 7" in result.stdout
    assert "[1] done at 7" in result.stdout
