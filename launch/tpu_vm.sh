#!/usr/bin/env bash
# Runs on Cloud TPU VMs: one VM, a slice of many hosts, or several slices, requested as a queued resource.
#
#   launch/tpu_vm.sh all train --config=cub200 --workdir=/mnt/runs/cub
#
# Commands, each of which can be repeated:
#   create    request the TPU, unless it is requested already
#   wait      until it is there
#   install   this checkout's committed files on every worker
#   run       start cdml on every worker (its arguments follow), unless it runs there already
#   watch     until cdml has ended on every worker; its status
#   logs      last lines of every worker's log
#   stop      ask cdml to save and end on every worker
#   status    of the request
#   delete    the request and the TPU, with their disks
#   all       create, wait, install, run, watch; again when the TPU was preempted or a worker was lost
#
# CDML_PROJECT, CDML_ZONE, CDML_NAME   Google Cloud project, zone; name of the request (must be set)
# CDML_TPU_TYPE      accelerator type, such as v5litepod-16 (must be set to create)
# CDML_TPU_RUNTIME   runtime version, such as v2-alpha-tpuv5-lite (must be set to create)
# CDML_TIER          on-demand, spot or reserved (on-demand)
# CDML_SLICES        slices (1)
# CDML_SETUP         shell command run first on every worker by install: mount the shared storage, say
# CDML_WAIT          seconds to wait for the TPU (86400)
# CDML_POLL          seconds between looks (30)
# CDML_MAX_RESTARTS  new starts that `all` makes (100)
# CDML_DELETE=1      `all` deletes the TPU when cdml has ended
# CDML_LINES         lines of the log (20)
# CDML_COMPILE=0     `all` does not first compile the step here to see whether it fits (CDML_PRICE, CDML_CLASSES,
#                    CDML_IMAGES: flags of `cdml compile`)
# DRY_RUN=1          print the commands, run nothing
#
# --workdir must lie on storage that every host shares and that outlives the TPU: a mount, or gs://BUCKET/FOLDER,
# which the TPU's service account may use (docs/clusters.md, "Buckets").
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

need CDML_PROJECT "the Google Cloud project"
need CDML_ZONE "the zone of the TPU"
need CDML_NAME "the name of the request"
whole CDML_SLICES 1 1
whole CDML_WAIT 86400 1
whole CDML_POLL 30 0
whole CDML_MAX_RESTARTS 100 0
whole CDML_LINES 20 1
dry || command -v gcloud >/dev/null || refuse "there is no command gcloud; install the Google Cloud CLI"
where=("--project=$CDML_PROJECT" "--zone=$CDML_ZONE")
if ((CDML_SLICES == 1)); then nodes=("$CDML_NAME"); else
  nodes=()
  for ((slice = 0; slice < CDML_SLICES; slice++)); do nodes+=("$CDML_NAME-$slice"); done
fi

# The request's state; nothing if there is no such request.
state() {
  local out
  if out=$(gcloud compute tpus queued-resources describe "$CDML_NAME" "${where[@]}" \
    '--format=value(state.state)' 2>&1); then
    tail -n 1 <<<"$out"
  elif [[ $out != *NOT_FOUND* && $out != *"not found"* ]]; then
    say "gcloud cannot tell the state: $(head -n 1 <<<"$out")"
    return 1
  fi
}

delete() {
  run gcloud compute tpus queued-resources delete "$CDML_NAME" "${where[@]}" --force --quiet
}

create() {
  need CDML_TPU_TYPE "the accelerator type, such as v5litepod-16"
  need CDML_TPU_RUNTIME "the runtime version, such as v2-alpha-tpuv5-lite"
  local options=("--accelerator-type=$CDML_TPU_TYPE" "--runtime-version=$CDML_TPU_RUNTIME") now
  case ${CDML_TIER:-on-demand} in
    on-demand) ;;
    spot) options+=(--spot) ;;
    reserved) options+=(--reserved) ;;
    *) refuse "CDML_TIER is $CDML_TIER: it must be on-demand, spot or reserved" ;;
  esac
  if ((CDML_SLICES == 1)); then
    options+=("--node-id=$CDML_NAME")
  else
    options+=("--node-count=$CDML_SLICES" "--node-prefix=$CDML_NAME")
  fi
  if ! dry; then
    now=$(state)
    case $now in
      '') ;;
      FAILED | SUSPENDED | SUSPENDING)
        say "$CDML_NAME is $now: deleted and requested again"
        delete
        ;;
      *)
        say "$CDML_NAME is requested already ($now)"
        return
        ;;
    esac
  fi
  run gcloud compute tpus queued-resources create "$CDML_NAME" "${where[@]}" "${options[@]}" --quiet
}

wait_active() {
  if dry; then
    run gcloud compute tpus queued-resources describe "$CDML_NAME" "${where[@]}" '--format=value(state.state)'
    return
  fi
  local end=$((SECONDS + CDML_WAIT)) now before=
  while :; do
    now=$(state)
    [[ $now == "$before" ]] || say "$CDML_NAME is ${now:-not requested}"
    before=$now
    case $now in
      ACTIVE) return ;;
      FAILED | SUSPENDED | SUSPENDING | DELETING | '')
        say "it will not become active; \`status\` shows why, \`create\` requests it again"
        return 1
        ;;
    esac
    if ((SECONDS >= end)); then
      say "waited $CDML_WAIT s; it stays requested: \`wait\` goes on, \`delete\` gives up"
      return 1
    fi
    sleep "$CDML_POLL"
  done
}

ssh_all=(gcloud compute tpus queued-resources ssh "$CDML_NAME" "${where[@]}" --node=all --worker=all --quiet)

# How many workers there are; asked once.
workers=0
count_workers() {
  local node hosts
  ((workers == 0)) || return 0
  for node in "${nodes[@]}"; do
    hosts=$(gcloud compute tpus tpu-vm describe "$node" "${where[@]}" '--format=value(networkEndpoints.len())') ||
      return 1
    workers=$((workers + ${hosts:-1}))
  done
}

# on_workers COMMAND: on every worker; `reports` has a line of each. gcloud's status is not enough: it is lost
# where there are several slices.
reports=
on_workers() {
  if dry; then
    run "${ssh_all[@]}" "--command=$1"
    return
  fi
  count_workers || return 1
  local out=''
  out=$("${ssh_all[@]}" "--command=$1") || true
  [[ ${quiet:-0} == 1 ]] || printf '%s\n' "$out"
  reports=$(sed -n 's/^cdml-worker [^:]*: //p' <<<"$out")
  (($(grep -c . <<<"$reports") == workers))
}

install() {
  local archive=${TMPDIR:-/tmp}/cdml-$CDML_NAME.tar.gz remote
  run git -C "$checkout" archive --format=tar.gz "--output=$archive" HEAD
  run gcloud compute tpus queued-resources scp "$archive" "$CDML_NAME:cdml.tar.gz" "${where[@]}" \
    --node=all --worker=all --quiet
  remote='mkdir -p cdml && tar -xzf cdml.tar.gz -C cdml && '
  [[ -z ${CDML_SETUP:-} ]] || remote+="CDML_SETUP=$(quoted "$CDML_SETUP") "
  remote+='bash cdml/launch/tpu_worker.sh install'
  on_workers "$remote" || {
    say "not installed on every worker: run \`install\` again"
    return 1
  }
}

start() {
  need_absolute_workdir "$@"
  on_workers "bash cdml/launch/tpu_worker.sh run $(quoted "$@")" || {
    say "not started on every worker: \`install\` first, or look with \`logs\`"
    return 1
  }
}

# Until no worker runs: 0 or cdml's status; 75 if the TPU or a worker was lost and a new start may help.
watch() {
  local now missed=0
  if dry; then
    on_workers 'bash cdml/launch/tpu_worker.sh state'
    return
  fi
  while :; do
    if quiet=1 on_workers 'bash cdml/launch/tpu_worker.sh state'; then
      missed=0
      if ! grep -qx running <<<"$reports"; then break; fi
      if grep -qx lost <<<"$reports"; then
        say "a worker lost its process"
        return 75
      fi
    else
      now=$(state) || now=unknown
      missed=$((missed + 1))
      say "not every worker answers; $CDML_NAME is ${now:-gone}"
      case $now in
        ACTIVE | unknown) if ((missed >= 10)); then return 75; fi ;;
        *) return 75 ;;
      esac
    fi
    sleep "$CDML_POLL"
  done
  printf '%s\n' "$reports" | sort | uniq -c
  if grep -qx 'ended 2' <<<"$reports"; then return 2; fi
  if grep -qx lost <<<"$reports" || grep -qx absent <<<"$reports"; then return 75; fi
  now=$(sed -n 's/^ended \(.*\)$/\1/p' <<<"$reports" | sort -n | tail -n 1)
  # Saved because the machines go away, not because `stop` asked.
  if [[ $now == 143 && $(state) != ACTIVE ]]; then return 75; fi
  return "$now"
}

stop() { on_workers 'bash cdml/launch/tpu_worker.sh stop'; }

all() {
  need_absolute_workdir "$@"
  need CDML_TPU_TYPE "the accelerator type, such as v5litepod-16"
  local starts=0 status now='' slice=$CDML_TPU_TYPE
  if ((CDML_SLICES > 1)); then slice="$CDML_SLICES*$slice"; fi
  dry || now=$(state)
  # What is requested already was compiled for before.
  [[ -n $now ]] || fits "$slice" "$@"
  while :; do
    create
    workers=0
    wait_active
    install
    start "$@"
    status=0
    # `watch` decides by its status; the shell ignores errors inside it.
    watch || status=$?
    ((status == 75)) || break
    if ((starts >= CDML_MAX_RESTARTS)); then
      say "lost again after $starts new starts"
      break
    fi
    starts=$((starts + 1))
    say "new start $starts"
    if [[ $(state) == ACTIVE ]]; then quiet=1 stop || true; fi
  done
  if [[ ${CDML_DELETE:-0} == 1 ]]; then
    delete
  elif ! dry; then
    say "cdml ended with status $status; $CDML_NAME is still there and costs money: \`delete\` ends it"
  fi
  return "$status"
}

command=${1:-}
(($# == 0)) || shift
case $command in
  run) start "$@" ;;
  all) all "$@" ;;
  create | install | watch | stop | delete | wait | logs | status)
    (($# == 0)) || refuse "$command takes no arguments"
    case $command in
      wait) wait_active ;;
      logs) on_workers "bash cdml/launch/tpu_worker.sh logs $CDML_LINES" ;;
      status) run gcloud compute tpus queued-resources describe "$CDML_NAME" "${where[@]}" ;;
      *) "$command" ;;
    esac
    ;;
  *) refuse "the first argument must be create, wait, install, run, watch, logs, stop, status, delete or all" ;;
esac
