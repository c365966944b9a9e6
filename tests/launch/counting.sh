#!/usr/bin/env bash
# Stands in for cdml: counts to STEPS (400), a quarter of a second each, and keeps the count in --workdir.
# TERM: saves and exits 143. An argument --config.no_such_key: exits 2.
set -euo pipefail
for argument in "$@"; do
  case $argument in
    --workdir=*) folder=${argument#--workdir=} ;;
    --config.no_such_key=*)
      echo "counting: there is no such key" >&2
      exit 2
      ;;
  esac
done
process=${CDML_PROCESS_ID:-${SLURM_PROCID:-0}}
mkdir -p "$folder"
kept=$folder/count.$process
count=$(cat "$kept" 2>/dev/null || echo 0)
trap 'echo "saved at $count"; echo "$count" >"$kept"; exit 143' TERM
trap 'echo "saved at $count"; echo "$count" >"$kept"; exit 130' INT
if ((count)); then echo "continuing at $count"; else echo "beginning"; fi
while ((count < ${STEPS:-400})); do
  sleep "${STEP_SECONDS:-0.25}" || true # a signal to the group ends the sleep, too
  count=$((count + 1))
  ((count % 20)) || echo "$count" >"$kept"
done
echo "$count" >"$kept"
echo "done at $count"
