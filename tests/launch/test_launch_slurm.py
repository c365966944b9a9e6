"""Slurm: what is submitted, and the batch script with other commands in place of Slurm's."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

BATCH = Path(__file__).parents[2] / "launch" / "slurm.sbatch"
RUN = ("train", "--config=cub", "--workdir=/shared/runs/cub")


def test_dry_run_with_gpus(launch):
    result = launch(
        "slurm.sh", *RUN, DRY_RUN=1, CDML_GPUS=4, CDML_NODES=2, CDML_TIME="1-00:00:00", CDML_PARTITION="a100"
    )
    submitted, step = result.stdout.splitlines()
    assert submitted == (
        "sbatch --parsable --export=ALL --job-name=cdml-cub --dependency=singleton --output=%x-%j.log "
        "--nodes=2 --ntasks-per-node=4 --gres=gpu:4 --time=1-00:00:00 --partition=a100 "
        f"{BATCH} train --config=cub --workdir=/shared/runs/cub"
    )
    assert step == (
        "env CDML_DISTRIBUTED=auto srun --label --kill-on-bad-exit=0 --wait=60 --gpu-bind=none "
        "cdml train --config=cub --workdir=/shared/runs/cub"
    )


def test_dry_run_without_gpus(launch):
    result = launch("slurm.sh", *RUN, DRY_RUN=1, CDML_GPUS=0, CDML_TASKS_PER_NODE=2, CDML_CPUS_PER_TASK=8)
    submitted, step = result.stdout.splitlines()
    assert "gres" not in submitted
    assert "--ntasks-per-node=2 --cpus-per-task=8" in submitted
    assert "gpu" not in step


def test_a_task_alone_on_its_node_takes_all_gpus(launch):
    result = launch("slurm.sh", *RUN, DRY_RUN=1, CDML_GPUS=4, CDML_TASKS_PER_NODE=1)
    assert re.search(r"JAX_LOCAL_DEVICE_IDS=0\\?,1\\?,2\\?,3 srun", result.stdout)


@pytest.mark.parametrize(
    ("variables", "arguments", "said"),
    [
        ({}, RUN, "CDML_GPUS is not set: GPUs of each node, 0 for none"),
        ({"CDML_GPUS": "many"}, RUN, "CDML_GPUS is many"),
        ({"CDML_GPUS": "8", "CDML_TASKS_PER_NODE": "2"}, RUN, "with 8 GPUs it must be 8 or 1"),
        ({"CDML_GPUS": "0"}, ("train",), "--workdir is not given"),
    ],
)
def test_mistakes_are_refused(launch, variables, arguments, said):
    launch.fake("sbatch", "")
    assert said in launch.refused("slurm.sh", *arguments, **variables)


def test_job_is_submitted(launch):
    launch.fake("sbatch", "echo '17;cluster'")
    result = launch("slurm.sh", *RUN, CDML_GPUS=0)
    assert result.returncode == 0
    assert "job 17 (cdml-cub) is queued" in result.stdout
    assert len(launch.calls("sbatch")) == 1


def test_what_sbatch_refuses_is_told(launch):
    launch.fake("sbatch", "echo 'sbatch: error: invalid partition' >&2; exit 1")
    result = launch("slurm.sh", *RUN, CDML_GPUS=0)
    assert result.returncode == 2
    assert "invalid partition" in result.stderr
    assert "sbatch refused the job" in result.stderr


def test_batch_script_asks_for_the_signal_and_may_be_requeued():
    directives = [line for line in BATCH.read_text().splitlines() if line.startswith("#SBATCH")]
    assert directives == [
        "#SBATCH --signal=B:TERM@120",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
    ]


def batch(launch, state="RUNNING", status=143):
    """Starts the batch script in a cluster where every process ends with `status` on TERM."""
    launch.fake("srun", f'echo $$ >pid; trap "exit {status}" TERM; touch runs; while :; do sleep 0.05; done')
    launch.fake("scancel", 'kill -TERM "$(<pid)"')
    # Slurm ends the batch script when it puts the job back.
    launch.fake(
        "scontrol",
        f'[[ $1 != show ]] || echo "JobId=5 JobState={state} Reason=None"\n'
        "[[ $1 != requeue ]] || kill -KILL $PPID",
    )
    process = launch.start("slurm.sbatch", *RUN, SLURM_JOB_ID=5)
    for _ in range(200):
        if (launch.folder / "runs").exists():
            return process
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate())


def test_signal_is_passed_to_the_steps_and_the_job_put_back(launch):
    process = batch(launch)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert "saved; back to the queue" in out
    assert launch.calls("scancel") == ["scancel --signal=TERM 5"]
    assert launch.calls("scontrol requeue") == ["scontrol requeue 5"]


@pytest.mark.parametrize(("state", "status"), [("RUNNING", 2), ("RUNNING", 1), ("COMPLETING", 143)])
def test_a_mistake_and_a_cancelled_job_are_not_put_back(launch, state, status):
    process = batch(launch, state, status)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == status
    assert f"ended with status {status}" in out
    assert launch.calls("scontrol requeue") == []


def test_processes_that_a_person_stopped_are_not_put_back(launch):
    process = batch(launch)
    launch_pid = int((launch.folder / "pid").read_text())
    os.kill(launch_pid, signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert launch.calls("scontrol requeue") == []


@pytest.mark.parametrize("status", [0, 2, 137])
def test_status_of_the_step_is_the_jobs(launch, status):
    launch.fake("srun", f"exit {status}")
    launch.fake("scontrol", "echo JobState=RUNNING")
    result = launch("slurm.sbatch", *RUN, SLURM_JOB_ID=5)
    assert result.returncode == status
    assert launch.calls("scontrol requeue") == []
