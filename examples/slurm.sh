#!/bin/bash
# Expert parallelism over all devices of a Slurm allocation: sbatch --nodes 8 --gpus-per-node 8 examples/slurm.sh CASES [-o RUN.jsonl]
# One torchrun a node; the first rank writes the record. Devices a node: DEVICES (8). Target: TARGET (torch:cuda).
#SBATCH --job-name moemark
#SBATCH --ntasks-per-node 1
#SBATCH --exclusive

set -euo pipefail
devices=${DEVICES:-8}
target=${TARGET:-torch:cuda}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node "$devices" \
    --rdzv-backend c10d --rdzv-endpoint "$head:29500" --rdzv-id "$SLURM_JOB_ID" \
    -m harness run --target "$target" "$@"
