#!/bin/bash
# A run of several processes on this machine, for a trial without a cluster:
#
#   experiments/launch/local.sh PROCESSES --config=FILE.py:PRESET --workdir=DIR [--config.x=…]
#
# On a machine with GPUs each process takes its share of them. SIGTERM or Ctrl-C stops all.
set -euo pipefail

count=$1
shift
export JAX_COORDINATOR_ADDRESS="127.0.0.1:${PORT:-12355}" JAX_NUM_PROCESSES=$count
gpus=$(nvidia-smi -L 2>/dev/null | wc -l || true)
share=$((gpus / count))

runs=()
trap 'kill -TERM "${runs[@]}" 2>/dev/null || true' TERM INT
for ((i = 0; i < count; i++)); do
    if ((share)); then
        export JAX_LOCAL_DEVICE_IDS
        JAX_LOCAL_DEVICE_IDS=$(seq -s, $((i * share)) $((i * share + share - 1)))
    fi
    JAX_PROCESS_ID=$i "${PYTHON:-python}" -m experiments.run "$@" &
    runs+=($!)
done
failed=0
for ((i = 0; i < count; i++)); do
    while :; do # a signal cuts a wait short
        status=0
        wait "${runs[i]}" || status=$?
        kill -0 "${runs[i]}" 2>/dev/null || break
    done
    if ((status)); then
        echo "process $i of $count ended with status $status" >&2
    fi
    failed=$((failed || status))
done
exit "$failed"
