#!/usr/bin/env bash
# What launch/tpu_vm.sh runs on each worker of a slice. It keeps its state in ~/cdml-run and says in one line
# how it ended: `cdml-worker HOST: ...`.
#
#   tpu_worker.sh install             a virtual environment beside this checkout, with cdml in it
#   tpu_worker.sh run ARGUMENTS...    start cdml, detached, unless it runs already
#   tpu_worker.sh state               running, ended STATUS, lost (it vanished without a status) or absent
#   tpu_worker.sh stop                ask it to save and end; kill it if it does not within CDML_GRACE (60) seconds
#   tpu_worker.sh logs [LINES]        last lines of its log
set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
state=$HOME/cdml-run
mkdir -p "$state"

report() { echo "cdml-worker $(hostname): $*"; }
running() { [[ -s $state/pid ]] && kill -0 "$(<"$state/pid")" 2>/dev/null; }

find_python() {
  local name
  for name in python3.12 python3.11; do
    if command -v "$name" >/dev/null && "$name" -c 'import ensurepip' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
}

install() {
  if [[ -n ${CDML_SETUP:-} ]]; then bash -c "$CDML_SETUP"; fi
  local python
  python=$(find_python)
  if [[ -z $python ]]; then # the images of TPU VMs have Python 3.10
    sudo apt-get update --quiet --quiet
    sudo apt-get install --yes --quiet --quiet python3.11 python3.11-venv
    python=python3.11
  fi
  cd "$checkout"
  "$python" -m venv .venv
  .venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt '.[train,report,tpu,gcs]'
  report installed
}

start() {
  if running; then
    report "running already"
    return
  fi
  rm -f "$state/status" "$state/pid"
  local command=${CDML_COMMAND:-$checkout/.venv/bin/cdml}
  # The shell between waits for the status; it survives the end of this session.
  # shellcheck disable=SC2016 # expanded by that shell
  CDML_DISTRIBUTED=auto setsid nohup bash -c '
    state=$1; shift
    "$@" >>"$state/log" 2>&1 </dev/null &
    echo $! >"$state/pid"
    status=0; wait $! || status=$?
    echo "$status" >"$state/status"
  ' cdml-run "$state" "$command" "$@" </dev/null >/dev/null 2>&1 &
  local tries
  for ((tries = 0; tries < 100; tries++)); do
    [[ ! -s $state/pid ]] || break
    sleep 0.1
  done
  report started
}

show_state() {
  if running; then
    report running
  elif [[ -s $state/status ]]; then
    report "ended $(<"$state/status")"
  elif [[ -e $state/pid ]]; then
    report lost
  else
    report absent
  fi
}

stop() {
  if running; then
    kill -TERM "$(<"$state/pid")" || true
    local tries
    for ((tries = 0; tries < ${CDML_GRACE:-60} * 10; tries++)); do
      running || break
      sleep 0.1
    done
    if running; then kill -KILL "$(<"$state/pid")"; fi
    for ((tries = 0; tries < 20; tries++)); do
      [[ ! -s $state/status ]] || break
      sleep 0.1
    done
  fi
  show_state
}

case ${1:-} in
  install) install ;;
  run) start "${@:2}" ;;
  state) show_state ;;
  stop) stop ;;
  logs)
    tail -n "${2:-20}" "$state/log" 2>/dev/null | sed "s/^/$(hostname): /"
    show_state
    ;;
  *)
    echo "tpu_worker.sh: install, run, state, stop or logs" >&2
    exit 2
    ;;
esac
