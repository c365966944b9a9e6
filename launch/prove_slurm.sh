#!/usr/bin/env bash
# Run slurm.sh for real on a one-node Slurm of this machine: two tasks, disturbed in every way, that finish
# with the arrays of an undisturbed run, bit for bit.
#
#   sudo --preserve-env=PATH launch/prove_slurm.sh [cdml's arguments, without --workdir]
#
# The arguments are `train --config=demo --config.epochs=30` if none are given; the run must last longer than
# the disturbances. `python` must be the one that has cdml's packages: it compares the last checkpoints.
# Needs root and a Debian or Ubuntu (it installs slurmctld, slurmd, slurm-client and munge if they are not
# there). Neither systemd nor cgroups are needed; a Slurm that runs here already is left alone.
#
# CDML_COMMAND   the command (cdml); tests/launch/counting.sh stands in for it within seconds of CPU
# CDML_PAUSE     seconds between a continued run's first line and the next disturbance (10)
# CDML_LIMIT     seconds to wait for one thing to happen (900)
# DRY_RUN=1      print the settings and what would be done
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

whole CDML_PAUSE 10 1
whole CDML_LIMIT 900 1
(($#)) || set -- train --config=demo --config.epochs=30
[[ -z $(workdir_of "$@") ]] || refuse "leave --workdir out: the proof has a folder of its own"
packages=(slurmctld slurmd slurm-client munge)
if ! dry; then
  ((EUID == 0)) || refuse "it must be run as root, to start the daemons"
  command -v apt-get >/dev/null || refuse "there is no apt-get: it needs Debian's or Ubuntu's packages"
fi

# Three minutes: the signal of `--signal=B:TERM@120` comes after one.
export CDML_GPUS=0 CDML_NODES=1 CDML_TASKS_PER_NODE=2 CDML_COMMAND=${CDML_COMMAND:-cdml}
export CDML_GRACE=30
if dry; then proof=PROOF; else proof=$(mktemp -d -t cdml-slurm-XXXXXX); fi
export CDML_LOG=$proof/job-%j.log SLURM_CONF=$proof/slurm.conf
run=(bash "$here/slurm.sh" "$@")
submit=("${run[@]}" "--workdir=$proof/run")

settings() {
  cat <<SETTINGS
ClusterName=proof
SlurmctldHost=$(hostname)(127.0.0.1)
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
SlurmUser=root
AuthType=auth/munge
# A requeued job waits until its first credential has expired: 120 s, were it not shortened here.
AuthInfo=socket=$proof/munge/socket,cred_expire=5
SlurmctldPort=16817
SlurmdPort=16818
SlurmctldPidFile=$proof/slurmctld.pid
SlurmdPidFile=$proof/slurmd.pid
SlurmctldLogFile=$proof/slurmctld.log
SlurmdLogFile=$proof/slurmd.log
StateSaveLocation=$proof/state
SlurmdSpoolDir=$proof/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=30
MinJobAge=3600
SETTINGS
}

if dry; then
  run apt-get install --yes --no-install-recommends "${packages[@]}"
  settings
  for daemon in munged slurmctld slurmd; do run "$daemon" "($proof/slurm.conf)"; done
  CDML_TIME=3 DRY_RUN=1 "${submit[@]}"
  run scontrol requeue JOB
  run kill -KILL "PROCESS OF TASK 1"
  DRY_RUN=1 "${submit[@]}"
  DRY_RUN=1 "${run[@]}" "--workdir=$proof/undisturbed"
  exit 0
fi

stop_daemons() {
  local file
  for file in slurmd.pid slurmctld.pid munge/pid; do
    [[ ! -s $proof/$file ]] || kill "$(<"$proof/$file")" 2>/dev/null || true
  done
}
trap stop_daemons EXIT

fail() {
  say "$*; logs are in $proof"
  exit 1
}

# wait_for WHAT COMMAND...: until the command succeeds.
wait_for() {
  local what=$1 end=$((SECONDS + CDML_LIMIT))
  shift
  until "$@"; do
    ((SECONDS < end)) || fail "waited $CDML_LIMIT s in vain: $what"
    sleep 1
  done
}

field() { # field JOB NAME: of scontrol's description
  scontrol show job --oneliner "$1" | tr ' ' '\n' | sed -n "s/^$2=//p" | head -n 1
}
logged() { grep -q "$2" "$proof/job-$1.log" 2>/dev/null; }
ended() { [[ $(field "$1" JobState) =~ ^(COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL)$ ]]; }
started() { # started JOB TIMES: or it ended before
  logged "$1" "start $2," || ended "$1"
}
undisturbed() {
  ! ended "$1" || fail "job $1 ended ($(field "$1" JobState)) before it was disturbed; give it more to do"
}
continued() { # continued JOB TIMES: that start has said where it goes on, or the job has ended
  sed -n "/start $2,/,\$p" "$proof/job-$1.log" | grep -q 'continuing at' || ended "$1"
}
submitted() { "$@" | sed -n 's/^job \([0-9]*\) .*/\1/p'; }
same_end() { # the arrays of the last checkpoints; a stand-in's whole folders
  if [[ ! -d $proof/run/checkpoints ]]; then
    diff -r "$proof/run" "$proof/undisturbed" && echo "the folders are equal"
    return
  fi
  PYTHONPATH=$here JAX_PLATFORMS=cpu python - "$proof/run" "$proof/undisturbed" <<'COMPARE'
import pathlib, sys
from prove_kills import arrays
one, other = (arrays(pathlib.Path(folder)) for folder in sys.argv[1:])
differing = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
sys.exit(f"{len(differing)} arrays differ: {differing[:3]}") if differing else None
print(f"all {len(one)} arrays of the last checkpoint are equal, byte for byte ({sum(map(len, one.values()))} bytes)")
COMPARE
}

missing=()
for package in "${packages[@]}"; do dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package"); done
if ((${#missing[@]})); then
  DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "${missing[@]}" >/dev/null
fi

mkdir -p "$proof/state" "$proof/spool" "$proof/munge"
chmod 755 "$proof"
settings >"$proof/slurm.conf"
head -c 1024 /dev/urandom >"$proof/munge/key"
chmod 400 "$proof/munge/key"
munged --force "--key-file=$proof/munge/key" "--socket=$proof/munge/socket" "--pid-file=$proof/munge/pid" \
  "--log-file=$proof/munge/log" "--seed-file=$proof/munge/seed" 2>"$proof/munge/warnings"
slurmctld -f "$proof/slurm.conf"
slurmd -f "$proof/slurm.conf"
idle() { [[ $(sinfo --noheader --format=%T 2>/dev/null) == idle ]]; }
wait_for "the node to be idle" idle
echo "$(slurmctld -V) on $(hostname): one node, two tasks; logs in $proof"

job=$(CDML_TIME=3 submitted "${submit[@]}")
[[ -n $job ]] || fail "the job was not submitted"
wait_for "job $job to start" started "$job" 1

begun=$SECONDS
wait_for "the signal before the time limit" started "$job" 2
undisturbed "$job"
logged "$job" 'saved; back to the queue' || fail "job $job started again without saving"
echo "1. time limit: saved, back in the queue and started again after $((SECONDS - begun)) s"

wait_for "job $job to continue" continued "$job" 2
sleep "$CDML_PAUSE"
undisturbed "$job"
scontrol requeue "$job"
wait_for "job $job to start again" started "$job" 3
undisturbed "$job"
echo "2. scontrol requeue: started again"

wait_for "job $job to continue" continued "$job" 3
sleep "$CDML_PAUSE"
undisturbed "$job"
pid=$(scontrol listpids "$job" | awk '$3 == 0 && $4 == 1 {print $1; exit}')
[[ -n $pid ]] || fail "no process of task 1 was found"
kill -KILL "$pid"
wait_for "job $job to end" ended "$job"
[[ $(field "$job" ExitCode) != 0:0 ]] || fail "a killed process was not noticed"
echo "3. kill -9 of process 1: job $job ended with status $(field "$job" ExitCode)"

again=$(submitted "${submit[@]}")
wait_for "job $again to end" ended "$again"
[[ $(field "$again" JobState) == COMPLETED ]] || fail "job $again ended as $(field "$again" JobState)"
echo "4. the same command again: job $again continued and completed"

mistake=$(submitted "${submit[@]}" --config.no_such_key=1)
wait_for "job $mistake to end" ended "$mistake"
[[ $(field "$mistake" ExitCode) == 2:0 && $(field "$mistake" Restarts) == 0 ]] ||
  fail "a mistake ended with $(field "$mistake" ExitCode) after $(field "$mistake" Restarts) restarts"
echo "5. a mistake in the arguments: status 2, not put back"

reference=$(submitted "${run[@]}" "--workdir=$proof/undisturbed")
wait_for "job $reference to end" ended "$reference"
[[ $(field "$reference" JobState) == COMPLETED ]] || fail "job $reference ended as $(field "$reference" JobState)"
same_end || fail "the end is not that of the undisturbed run"
echo "6. undisturbed, job $reference: the same end"
echo "All held. What the jobs said:"
cat "$proof"/job-*.log
