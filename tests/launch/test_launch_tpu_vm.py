"""TPU VMs: a gcloud that keeps a request's state in files and runs the workers' side in folders here."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
WHERE = {"CDML_PROJECT": "birds", "CDML_ZONE": "us-west4-a", "CDML_NAME": "cub"}
SLICE = WHERE | {"CDML_TPU_TYPE": "v5litepod-16", "CDML_TPU_RUNTIME": "v2-alpha-tpuv5-lite"}
QUICK = SLICE | {"CDML_POLL": "0"}
GCLOUD = "gcloud compute tpus queued-resources"
PLACE = "--project=birds --zone=us-west4-a"

pytestmark = pytest.mark.skipif(shutil.which("setsid") is None, reason="workers need Linux's setsid")

# states: one a line, each told once, the last one for ever; none: no such request. workers/N: their homes.
FAKE_GCLOUD = r"""
cd "$(dirname "$0")/.."
verb="$4"
case "$3 $4" in
  "queued-resources describe")
    if [[ -e broken ]]; then echo "ERROR: no active account" >&2; exit 1; fi
    if [[ ! -s states ]]; then echo "ERROR: NOT_FOUND: no such resource" >&2; exit 1; fi
    head -n 1 states
    if (($(wc -l <states) > 1)); then sed -i 1d states; fi ;;
  "queued-resources create")
    mkdir -p workers/0 workers/1
    cat granted >states ;;
  "queued-resources delete") rm -rf states workers ;;
  "tpu-vm describe") echo 2 ;;
  "queued-resources scp") for home in workers/*; do cp "$5" "$home/cdml.tar.gz"; done ;;
  "queued-resources ssh")
    for argument; do [[ $argument != --command=* ]] || command=${argument#--command=}; done
    number=0
    for home in workers/*; do
      if [[ -e silent && $home == workers/1 ]]; then continue; fi
      (cd "$home" && HOME=$PWD SLURM_PROCID=$number bash -c "$command")
      number=$((number + 1))
    done
    if [[ $command == *" state" && -e preempt ]]; then
      rm preempt
      for home in workers/*; do kill -KILL "$(<"$home/cdml-run/pid")"; done
      rm -rf workers
      mkdir workers
      echo SUSPENDED >states
    fi ;;
esac
"""


@pytest.fixture
def cloud(launch, counting):
    """What a project needs to grant a request at once."""
    launch.fake("gcloud", FAKE_GCLOUD)
    launch.fake("cdml", 'cd "$(dirname "$0")/.." && ! test -e large')  # the step fits, unless it is large
    # The archive is that of this working tree, and holds what the workers use of it.
    launch.fake(
        "git", f'for a; do [[ $a != --output=* ]] || tar -C "{LAUNCH.parent}" -czf "${{a#*=}}" launch; done'
    )
    # No environment is made: its `cdml` counts.
    launch.fake(
        "python3.12",
        f"""if [[ $2 == venv ]]; then
  mkdir -p .venv/bin && ln -sf "$(type -P true)" .venv/bin/pip && ln -sf {counting} .venv/bin/cdml
fi""",
    )
    (launch.folder / "granted").write_text("ACTIVE\n")
    return launch


def run(cloud):
    return ("train", "--config=cub", f"--workdir={cloud.folder}/shared/cub")


def requests(cloud):
    """The verbs of gcloud, less the questions about states."""
    verbs = [" ".join(call.split()[4:5]) for call in cloud.calls("gcloud")]
    return [verb for verb in verbs if verb != "describe"]


def test_dry_run_prints_every_step(launch):
    result = launch(
        "tpu_vm.sh", "all", "train", "--config=cub", "--workdir=/mnt/runs/cub",
        DRY_RUN=1, CDML_TIER="spot", CDML_SETUP="sudo mount /mnt", CDML_DELETE=1, **SLICE,
    )  # fmt: skip
    archive = f"{launch.folder}/cdml-cub.tar.gz"
    ssh = f"{GCLOUD} ssh cub {PLACE} --node=all --worker=all --quiet"
    assert result.stdout.splitlines() == [
        "cdml compile --topology=v5litepod-16 --config=cub",
        (
            f"{GCLOUD} create cub {PLACE} --accelerator-type=v5litepod-16 "
            "--runtime-version=v2-alpha-tpuv5-lite --spot --node-id=cub --quiet"
        ),
        f"{GCLOUD} describe cub {PLACE} --format='value(state.state)'",
        f"git -C {LAUNCH.parent} archive --format=tar.gz --output={archive} HEAD",
        f"{GCLOUD} scp {archive} cub:cdml.tar.gz {PLACE} --node=all --worker=all --quiet",
        (
            rf"{ssh} --command='mkdir -p cdml && tar -xzf cdml.tar.gz -C cdml && "
            r"CDML_SETUP='\''sudo mount /mnt'\'' bash cdml/launch/tpu_worker.sh install'"
        ),
        f"{ssh} --command='bash cdml/launch/tpu_worker.sh run train --config=cub --workdir=/mnt/runs/cub'",
        f"{ssh} --command='bash cdml/launch/tpu_worker.sh state'",
        f"{GCLOUD} delete cub {PLACE} --force --quiet",
    ]


def test_a_workdir_may_be_in_a_bucket(launch):
    run = "train --config=cub --workdir=gs://bucket/runs/cub"
    result = launch("tpu_vm.sh", "run", *run.split(), DRY_RUN=1, **SLICE)
    assert f"tpu_worker.sh run {run}'" in result.stdout


def test_dry_run_of_reserved_slices(launch):
    result = launch("tpu_vm.sh", "create", DRY_RUN=1, CDML_TIER="reserved", CDML_SLICES=2, **SLICE)
    assert " --reserved --node-count=2 --node-prefix=cub " in result.stdout
    assert "--node-id" not in result.stdout


@pytest.mark.parametrize("command", ["logs", "stop", "status", "delete", "wait", "install", "watch"])
def test_dry_run_of_each_command_calls_nothing(launch, command):
    launch.fake("gcloud", "exit 1")
    launch.fake("git", "exit 1")
    result = launch("tpu_vm.sh", command, DRY_RUN=1, **WHERE)
    assert result.returncode == 0
    assert result.stdout.startswith(("gcloud compute tpus queued-resources ", "git -C "))
    assert launch.calls() == []


@pytest.mark.parametrize("missing", sorted(SLICE))
def test_missing_variable_is_named(launch, missing):
    launch.fake("gcloud", "")
    variables = {name: value for name, value in SLICE.items() if name != missing}
    assert f"{missing} is not set: " in launch.refused("tpu_vm.sh", "create", **variables)


@pytest.mark.parametrize(
    ("variables", "arguments", "said"),
    [
        ({}, (), "the first argument must be create, wait,"),
        ({}, ("destroy",), "the first argument must be create, wait,"),
        ({}, ("wait", "train"), "wait takes no arguments"),
        ({"CDML_TIER": "free"}, ("create",), "it must be on-demand, spot or reserved"),
        ({"CDML_SLICES": "0"}, ("create",), "CDML_SLICES is 0"),
        ({}, ("run", "train", "--config=cub"), "--workdir is not given"),
        ({}, ("all", "train", "--workdir=runs/cub"), "must be an absolute path"),
    ],
)
def test_mistakes_are_refused(launch, variables, arguments, said):
    launch.fake("gcloud", "")
    assert said in launch.refused("tpu_vm.sh", *arguments, **SLICE, **variables)


def test_from_the_request_to_the_end(cloud):
    (cloud.folder / "granted").write_text("WAITING_FOR_RESOURCES\nPROVISIONING\nACTIVE\n")
    result = cloud("tpu_vm.sh", "all", *run(cloud), STEPS=3, STEP_SECONDS=0.1, **QUICK)
    assert result.returncode == 0, result.stderr
    verbs = requests(cloud)
    assert verbs[:4] == ["create", "scp", "ssh", "ssh"]
    assert set(verbs[4:]) == {"ssh"}
    for state in ("WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"):
        assert f"cub is {state}" in result.stderr
    assert "2 ended 0" in result.stdout
    assert "cub is still there and costs money" in result.stderr
    assert (cloud.folder / "shared/cub/count.1").read_text() == "3\n"

    # The same command again: nothing is requested, the run continues.
    result = cloud("tpu_vm.sh", "all", *run(cloud), STEPS=5, STEP_SECONDS=0, CDML_DELETE=1, **QUICK)
    assert result.returncode == 0, result.stderr
    assert "cub is requested already (ACTIVE)" in result.stderr
    assert requests(cloud).count("create") == 1
    assert requests(cloud)[-1] == "delete"
    assert cloud.calls("cdml") == ["cdml compile --topology=v5litepod-16 --config=cub"]


def test_what_does_not_fit_is_not_requested(cloud):
    (cloud.folder / "large").touch()
    result = cloud("tpu_vm.sh", "all", *run(cloud), CDML_SLICES=2, **QUICK)
    assert result.returncode == 2
    assert "nothing was created: " in result.stderr
    assert requests(cloud) == []
    assert cloud.calls("cdml") == ["cdml compile --topology=2*v5litepod-16 --config=cub"]
    result = cloud("tpu_vm.sh", "all", *run(cloud), STEPS=1, STEP_SECONDS=0, CDML_COMPILE=0, **QUICK)
    assert result.returncode == 0, result.stderr
    assert requests(cloud)[0] == "create"


def test_after_a_preemption_it_is_requested_again_and_continues(cloud):
    (cloud.folder / "preempt").touch()
    shared = cloud.folder / "shared/cub"
    shared.mkdir(parents=True)
    for process in range(2):
        (shared / f"count.{process}").write_text("40\n")
    result = cloud("tpu_vm.sh", "all", *run(cloud), STEPS=43, STEP_SECONDS=0.2, **QUICK)
    assert result.returncode == 0, result.stderr
    assert "not every worker answers; cub is SUSPENDED" in result.stderr
    assert "cub is SUSPENDED: deleted and requested again" in result.stderr
    verbs = requests(cloud)
    assert (verbs.count("create"), verbs.count("delete")) == (2, 1)
    log = (cloud.folder / "workers/0/cdml-run/log").read_text()
    assert "continuing at 40" in log
    assert "done at 43" in log


def test_a_mistake_ends_it(cloud):
    result = cloud("tpu_vm.sh", "all", *run(cloud), "--config.no_such_key=1", **QUICK)
    assert result.returncode == 2
    assert "2 ended 2" in result.stdout
    assert requests(cloud).count("create") == 1
    logs = cloud("tpu_vm.sh", "logs", **QUICK)
    assert logs.stdout.count("counting: there is no such key") == 2


def test_stopped_by_a_person_it_saves_and_stays_stopped(cloud):
    for command in ("create", "install"):
        assert cloud("tpu_vm.sh", command, **QUICK).returncode == 0
    assert cloud("tpu_vm.sh", "run", *run(cloud), STEP_SECONDS=0.05, **QUICK).returncode == 0
    again = cloud("tpu_vm.sh", "run", *run(cloud), **QUICK)
    assert again.stdout.count("running already") == 2
    stopped = cloud("tpu_vm.sh", "stop", **QUICK)
    assert stopped.stdout.count("ended 143") == 2
    assert cloud("tpu_vm.sh", "watch", **QUICK).returncode == 143


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDED", "DELETING"])
def test_a_request_that_fails_is_told(cloud, state):
    (cloud.folder / "states").write_text(f"WAITING_FOR_RESOURCES\n{state}\n")
    result = cloud("tpu_vm.sh", "wait", **QUICK)
    assert result.returncode == 1
    assert f"cub is {state}" in result.stderr
    assert "it will not become active" in result.stderr


def test_waiting_has_an_end(cloud):
    (cloud.folder / "states").write_text("WAITING_FOR_RESOURCES\n")
    result = cloud("tpu_vm.sh", "wait", **QUICK, CDML_WAIT=1)
    assert result.returncode == 1
    assert "waited 1 s; it stays requested" in result.stderr


def test_without_an_account_nothing_is_created(cloud):
    (cloud.folder / "broken").touch()
    result = cloud("tpu_vm.sh", "create", **QUICK)
    assert result.returncode == 1
    assert "gcloud cannot tell the state: ERROR: no active account" in result.stderr
    assert requests(cloud) == []


def test_a_worker_that_does_not_answer_is_noticed(cloud):
    assert cloud("tpu_vm.sh", "create", **QUICK).returncode == 0
    (cloud.folder / "silent").touch()
    result = cloud("tpu_vm.sh", "install", **QUICK)
    assert result.returncode == 1
    assert "not installed on every worker" in result.stderr


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="the Google Cloud CLI is not installed")
def test_gcloud_knows_every_flag(launch):
    """The CLI's own parser reads the commands; nothing is sent."""
    lines = []
    for arguments, variables in [
        (("all", "train", "--config=cub", "--workdir=/mnt/cub"), {"CDML_TIER": "spot", "CDML_DELETE": 1}),
        (("create",), {"CDML_TIER": "reserved", "CDML_SLICES": 2}),
        (("status",), {}),
    ]:
        lines += launch("tpu_vm.sh", *arguments, DRY_RUN=1, **SLICE, **variables).stdout.splitlines()
    lines.append(f"gcloud compute tpus tpu-vm describe cub {PLACE} --format='value(networkEndpoints.len())'")
    file = launch.folder / "commands"
    file.write_text(json.dumps([{"command_string": line} for line in lines if line.startswith("gcloud ")]))
    result = subprocess.run(
        ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}"],
        env=launch.environment(CLOUDSDK_CONFIG=launch.folder / "gcloud", CLOUDSDK_CORE_DISABLE_PROMPTS=1),
        capture_output=True,
        text=True,
    )
    if result.returncode and "Invalid choice" in result.stderr:
        pytest.skip("this Google Cloud CLI has no lint-gcloud-commands")
    found = json.loads(result.stdout)
    assert len(found) == 10
    assert [each["error_message"] for each in found if not each["success"]] == []
