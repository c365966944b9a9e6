#!/usr/bin/env bash
# Several processes of one run on this machine, joined over the loopback.
#
#   CDML_PROCESSES=2 launch/local.sh train --config=demo --workdir=runs/two
#
# CDML_PROCESSES  how many (2)
# CDML_GPUS       GPUs to share out evenly, 0 for none (0)
# CDML_PORT       port of process 0 (a free one)
# CDML_GRACE      seconds to save and end, once asked or once a process failed (60)
# CDML_COMMAND    the command (cdml)
# DRY_RUN=1       print the commands, run nothing
#
# Every line of output names its process. The first process that fails ends the others; its status is this
# script's. SIGTERM and Ctrl-C reach every process. The same command continues a stopped run.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

whole CDML_PROCESSES 2 1
whole CDML_GPUS 0 0
whole CDML_GRACE 60 1
need_workdir "$@"
((CDML_GPUS % CDML_PROCESSES == 0)) ||
  refuse "CDML_GPUS is $CDML_GPUS: it must be a multiple of CDML_PROCESSES ($CDML_PROCESSES)"
read -r -a command <<<"${CDML_COMMAND:-cdml}"
dry || command -v "${command[0]}" >/dev/null || refuse "there is no command ${command[0]}; is the environment active?"

free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    # Nothing answers there.
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  echo "$port"
}
dry || [[ -n ${CDML_PORT:-} ]] || CDML_PORT=$(free_port)
coordinator=127.0.0.1:${CDML_PORT:-PORT}

# settings INDEX: what tells process INDEX who it is.
settings() {
  variables=("CDML_COORDINATOR=$coordinator" "CDML_NUM_PROCESSES=$CDML_PROCESSES" "CDML_PROCESS_ID=$1")
  local each=$((CDML_GPUS / CDML_PROCESSES)) list
  if ((each)); then
    list=$(seq -s, $((each * $1)) $((each * ($1 + 1) - 1)))
    variables+=("CUDA_VISIBLE_DEVICES=$list")
  fi
}

if dry; then
  for ((index = 0; index < CDML_PROCESSES; index++)); do
    settings "$index"
    quoted env -u CDML_DISTRIBUTED "${variables[@]}" "${command[@]}" "$@"
  done
  exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
set -m # each process in a group of its own: a signal reaches it once, from here
pids=() readers=() statuses=()

signal_all() {
  local pid
  for pid in "${pids[@]}"; do kill -s "$1" "$pid" 2>/dev/null || true; done
}

kill_all() {
  local index
  for index in "${!pids[@]}"; do
    [[ -z ${statuses[index]:-} ]] || continue
    say "process $index did not end within $CDML_GRACE s: killed"
    kill -s KILL -- "-${pids[index]}" 2>/dev/null || true
  done
}

ending=0 deadline=0
end_with() {
  signal_all "$1"
  ((ending)) || deadline=$((SECONDS + CDML_GRACE))
  ending=1
}
trap 'end_with TERM' TERM HUP
trap 'end_with INT' INT

for ((index = 0; index < CDML_PROCESSES; index++)); do
  mkfifo "$scratch/$index"
  while IFS= read -r line || [[ -n $line ]]; do printf '[%d] %s\n' "$index" "$line"; done <"$scratch/$index" &
  readers+=("$!")
  settings "$index"
  env -u CDML_DISTRIBUTED "${variables[@]}" "${command[@]}" "$@" </dev/null >"$scratch/$index" 2>&1 &
  pids+=("$!")
done

first=0 running=$CDML_PROCESSES
while ((running)); do
  sleep 0.1
  running=0
  for index in "${!pids[@]}"; do
    [[ -z ${statuses[index]:-} ]] || continue
    if kill -0 "${pids[index]}" 2>/dev/null; then
      running=$((running + 1))
      continue
    fi
    status=0
    wait "${pids[index]}" 2>/dev/null || status=$?
    statuses[index]=$status
    if ((status && !first)); then
      first=$status
      if ((!ending)); then
        sleep 0.1 # its last words come first
        say "process $index ended with status $status; ending the others"
        end_with TERM
      fi
    fi
  done
  if ((running && ending && SECONDS >= deadline)); then
    kill_all
    deadline=$((SECONDS + CDML_GRACE))
  fi
done

# Last lines; a grandchild that outlives its process would keep its pipe open.
for ((tries = 0; tries < 20; tries++)); do
  open=0
  for pid in "${readers[@]}"; do ! kill -0 "$pid" 2>/dev/null || open=1; done
  ((open)) || break
  sleep 0.1
done
exit "$first"
