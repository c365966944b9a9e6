#!/usr/bin/env bash
# Runs on TPU slices of a GKE cluster, as a JobSet.
#
#   launch/gke.sh image
#   launch/gke.sh apply train --config=cub200 --workdir=/shared/runs/cub
#
# Commands, each of which can be repeated:
#   image     build and push the container image
#   render    print the manifests
#   apply     start the run, unless it runs; one that has ended is replaced, and continues
#   status    of the run and its pods
#   logs      of process 0, followed
#   delete    the run; its workdir stays
#
# CDML_NAME              the run's name in the cluster (must be set)
# CDML_IMAGE             the container image (must be set)
# CDML_CLAIM             PersistentVolumeClaim that all pods can write, mounted at /shared (must be set, unless
#                        --workdir is gs://BUCKET/FOLDER)
# CDML_TPU_ACCELERATOR   node pools' label, such as tpu-v5-lite-podslice (must be set)
# CDML_TPU_TOPOLOGY      chips of a slice, such as 4x4 (must be set)
# CDML_CHIPS_PER_HOST    chips of a host (4)
# CDML_SLICES            slices (1)
# CDML_TIER              on-demand, spot or reserved (on-demand); reserved needs CDML_RESERVATION
# CDML_NAMESPACE, CDML_SERVICE_ACCOUNT   (default, cdml)
# CDML_MAX_RESTARTS      new starts after a failure or preemption (100)
# CDML_COMPILE=0         `apply` does not first compile the step here to see whether it fits (CDML_PRICE,
#                        CDML_CLASSES, CDML_IMAGES: flags of `cdml compile`)
# DRY_RUN=1              print the commands and manifests, run nothing
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

command=${1:-}
(($# == 0)) || shift
namespace=${CDML_NAMESPACE:-default}
tool() { dry || command -v "$1" >/dev/null || refuse "there is no command $1"; }

manifests() {
  need_workdir "$@"
  python3 -I -S "$here/gke/render.py" "$@"
}

named() { need CDML_NAME "the run's name in the cluster"; }

apply() {
  local all ended slice
  tool kubectl
  all=$(manifests "$@")
  slice=$CDML_TPU_ACCELERATOR:$CDML_TPU_TOPOLOGY
  if ((${CDML_SLICES:-1} > 1)); then slice="$CDML_SLICES*$slice"; fi
  if dry; then
    fits "$slice" "$@"
    run kubectl apply -f -
    printf '%s\n' "$all"
    return
  fi
  # A JobSet cannot be changed once it is there.
  ended=$(kubectl get jobset "$CDML_NAME" -n "$namespace" --ignore-not-found -o 'jsonpath={.metadata.name} {.status.terminalState}')
  case $ended in
    '' | ' ' | *' Completed' | *' Failed') ;;
    *)
      say "$CDML_NAME runs already; \`delete\` ends it"
      return
      ;;
  esac
  fits "$slice" "$@"
  case $ended in
    *' Completed' | *' Failed')
      say "$ended: replaced"
      kubectl delete jobset "$CDML_NAME" -n "$namespace" --wait=true
      ;;
  esac
  kubectl apply -f - <<<"$all"
}

case $command in
  image)
    need CDML_IMAGE "the container image, with its registry"
    tool docker
    run docker build -f "$here/gke/Dockerfile" -t "$CDML_IMAGE" "$(dirname "$here")"
    run docker push "$CDML_IMAGE"
    ;;
  render) manifests "$@" ;;
  apply) apply "$@" ;;
  status)
    named
    tool kubectl
    run kubectl get jobset "$CDML_NAME" -n "$namespace"
    run kubectl get pods -n "$namespace" -l "jobset.sigs.k8s.io/jobset-name=$CDML_NAME" -o wide
    ;;
  logs)
    named
    tool kubectl
    run kubectl logs -f "job/$CDML_NAME-slice-0" -n "$namespace" -c cdml
    ;;
  delete)
    named
    tool kubectl
    run kubectl delete jobset "$CDML_NAME" -n "$namespace" --ignore-not-found
    ;;
  *) refuse "the first argument must be image, render, apply, status, logs or delete" ;;
esac
