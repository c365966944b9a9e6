#!/usr/bin/env bash
# Submit a run to Slurm; one process a GPU, or a task where there are none.
#
#   CDML_GPUS=4 CDML_NODES=2 launch/slurm.sh train --config=cub200 --workdir=/shared/runs/cub
#
# CDML_GPUS            GPUs of each node; 0: no GPU is asked for (must be set)
# CDML_NODES           nodes (1)
# CDML_TASKS_PER_NODE  processes of each node: CDML_GPUS or 1; without GPUs any number (CDML_GPUS, or 1)
# CDML_CPUS_PER_TASK   CPU cores of each process (the cluster's default)
# CDML_TIME            time limit, Slurm's format (the partition's default)
# CDML_PARTITION, CDML_ACCOUNT, CDML_LOG   where to; log file (cdml-NAME-JOB.log)
# CDML_GRACE           seconds that the other processes have when one has ended (60)
# CDML_COMMAND         the command (cdml)
# DRY_RUN=1            print the commands, run nothing
#
# Submitted again, the run continues. While a job of the same workdir's name is queued or runs, the new one
# waits for it. Further options of sbatch can be given as its own variables (SBATCH_CONSTRAINT, SBATCH_QOS).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

need CDML_GPUS "GPUs of each node, 0 for none"
whole CDML_GPUS 0 0
whole CDML_NODES 1 1
whole CDML_TASKS_PER_NODE $((CDML_GPUS > 0 ? CDML_GPUS : 1)) 1
whole CDML_GRACE 60 1
need_workdir "$@"
if ((CDML_GPUS > 0 && CDML_TASKS_PER_NODE != CDML_GPUS && CDML_TASKS_PER_NODE != 1)); then
  refuse "CDML_TASKS_PER_NODE is $CDML_TASKS_PER_NODE: with $CDML_GPUS GPUs it must be $CDML_GPUS or 1"
fi
dry || command -v sbatch >/dev/null || refuse "there is no command sbatch; run this on a login node"

name=cdml-$(basename "$(workdir_of "$@")")
batch=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/slurm.sbatch
export CDML_GPUS CDML_TASKS_PER_NODE CDML_GRACE CDML_COMMAND=${CDML_COMMAND:-cdml}

options=(
  --parsable --export=ALL "--job-name=$name" --dependency=singleton "--output=${CDML_LOG:-%x-%j.log}"
  "--nodes=$CDML_NODES" "--ntasks-per-node=$CDML_TASKS_PER_NODE"
)
((CDML_GPUS == 0)) || options+=("--gres=gpu:$CDML_GPUS")
[[ -z ${CDML_CPUS_PER_TASK:-} ]] || options+=("--cpus-per-task=$CDML_CPUS_PER_TASK")
[[ -z ${CDML_TIME:-} ]] || options+=("--time=$CDML_TIME")
[[ -z ${CDML_PARTITION:-} ]] || options+=("--partition=$CDML_PARTITION")
[[ -z ${CDML_ACCOUNT:-} ]] || options+=("--account=$CDML_ACCOUNT")

if dry; then
  quoted sbatch "${options[@]}" "$batch" "$@"
  bash "$batch" "$@"
  exit 0
fi
job=$(sbatch "${options[@]}" "$batch" "$@") || refuse "sbatch refused the job"
job=${job%%;*} # JOB;CLUSTER where there are several
echo "job $job ($name) is queued; squeue -j $job shows it, scancel --batch --signal=TERM $job moves it on"
