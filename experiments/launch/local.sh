#!/bin/bash
# A run of several processes on this machine, to try one without a cluster:
#
#   experiments/launch/local.sh PROCESSES --config=FILE.py:PRESET --workdir=DIR [--config.x=…]
#
# The processes share out any GPUs of the machine; if these do not divide evenly, the first
# processes take one more. SIGTERM or Ctrl-C stops all processes; a second one ends them at once.
# The exit status is that of the first process, by number, that did not exit with 0. PYTHON selects
# another interpreter than `python`. With DRY_RUN=1, commands are printed and nothing is started.
set -euo pipefail

count=${1:-}
if [[ ! $count =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: $0 PROCESSES --config=FILE.py:PRESET --workdir=DIR" >&2
    exit 2
fi
shift
if [[ ${JAX_PLATFORMS:-} == cpu ]]; then
    gpus=0
elif [[ ${CUDA_VISIBLE_DEVICES:-} ]]; then
    gpus=$(tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | wc -l)
else
    gpus=$(nvidia-smi -L 2>/dev/null | wc -l || true)
fi
if ((gpus && gpus < count)); then
    echo "error: $count processes can't share $gpus GPUs: start $gpus, or set JAX_PLATFORMS=cpu" >&2
    exit 2
fi

stops=0
# shellcheck disable=SC2329 # called by a trap
stop() {
    local signal=TERM
    ((++stops == 1)) || signal=KILL
    # shellcheck disable=SC2046 # one word for each process
    kill "-$signal" $(jobs -p) 2>/dev/null || true
}
trap stop TERM INT HUP
runs=()
first=0
for ((i = 0; i < count && !stops; i++)); do
    command=(
        env JAX_COORDINATOR_ADDRESS="127.0.0.1:${PORT:-12355}" JAX_NUM_PROCESSES="$count"
        JAX_PROCESS_ID="$i"
    )
    if ((gpus)); then
        share=$((gpus / count + (i < gpus % count)))
        command+=(JAX_LOCAL_DEVICE_IDS="$(seq -s, "$first" $((first + share - 1)))")
        first=$((first + share))
    fi
    command+=("${PYTHON:-python}" -m ad_jax run "$@")
    if [[ ${DRY_RUN:-} ]]; then
        printf '%q ' "${command[@]}"
        echo "&"
        continue
    fi
    "${command[@]}" &
    runs+=($!)
done
failed=0
for i in "${!runs[@]}"; do
    while kill -0 "${runs[i]}" 2>/dev/null; do # a signal interrupts `wait`
        wait "${runs[i]}" || true
    done
    status=0
    wait "${runs[i]}" || status=$?
    if ((status)); then
        echo "process $i of $count ended with status $status" >&2
    fi
    failed=$((failed ? failed : status))
done
exit "$failed"
