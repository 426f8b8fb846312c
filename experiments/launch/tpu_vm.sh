#!/bin/bash
# A run on a TPU VM, or on all VMs of a pod slice, of Google Cloud; needs gcloud and, for more than
# one VM, a bucket that they all may use (--workdir=gs://BUCKET/DIR; then leave SHARE out) or an NFS
# share (Filestore, say) that they all see, which is mounted at /mnt/ad_jax:
#
#   export NAME=ad ZONE=us-west4-a TYPE=v5litepod-16 [SHARE=10.0.0.2:/vol1] [SPOT=1] [VERSION=…]
#   experiments/launch/tpu_vm.sh create      # the VMs, with what is committed here installed
#   experiments/launch/tpu_vm.sh run --config=FILE.py:PRESET --workdir=gs://BUCKET/DIR [--config.x=…]
#   experiments/launch/tpu_vm.sh keep --config=… --workdir=…   # both, and again after a preemption
#   experiments/launch/tpu_vm.sh status      # of the run: running, its exit status, or none
#   experiments/launch/tpu_vm.sh log         # of the first VM, until Ctrl-C
#   experiments/launch/tpu_vm.sh stop        # saves; "run" goes on
#   experiments/launch/tpu_vm.sh fetch DIR [HERE]              # also gs://BUCKET/DIR
#   experiments/launch/tpu_vm.sh delete
#
# "run" returns once it has started the run: it goes on without this machine, and writes
# ~/ad_jax/run.log on each VM. "keep" stays: every minute (SECONDS_BETWEEN) it makes the slice again
# if it was preempted, starts the run if there is none, and starts it again after a failure, at most
# three times (RESTARTS). It ends with the status of the run.
#
# A bare image is enough: "create" installs uv, which fetches Python 3.11 (PYTHON=3.12, or the path
# of an interpreter on the VMs, asks for another). With DRY_RUN=1 all commands are printed, and
# nothing is run.
set -euo pipefail

call() { # a command
    if [[ ${DRY_RUN:-} ]]; then
        printf "'%s' " "${@//\'/\'\\\'\'}" # %q would write scripts of several lines as one
        echo
    else
        "$@"
    fi
}

tpu() { # COMMAND [OPTION…], of the slice
    call gcloud compute tpus tpu-vm "$1" --zone="$ZONE" "${@:2}"
}

everywhere() { # a shell command on every VM
    tpu ssh "$NAME" --worker=all --command="$1"
}

create() {
    code=$(mktemp -d)
    trap 'rm -r "$code"' EXIT
    git archive --format=tar.gz --output="$code/ad_jax.tar.gz" HEAD
    tpu create "$NAME" --accelerator-type="${TYPE:?say what, as in TYPE=v5litepod-16}" \
        --version="${VERSION:-v2-alpha-tpuv5-lite}" ${SPOT:+--spot}
    tpu scp "$code/ad_jax.tar.gz" "$NAME": --worker=all
    everywhere "set -e
        mkdir -p ad_jax && tar -xzf ad_jax.tar.gz -C ad_jax && cd ad_jax
        echo $(git rev-parse --short=10 HEAD) >commit
        export PATH=\$HOME/.local/bin:\$PATH
        command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
        uv venv -q --python=$(printf %q "${PYTHON:-3.11}") .venv
        uv pip install -q -c constraints.txt -e '.[tpu,gcs]'"
    if [[ ${SHARE:-} ]]; then
        everywhere "sudo apt-get install -qy nfs-common && sudo mkdir -p /mnt/ad_jax &&
            sudo mount -o rw $(printf %q "$SHARE") /mnt/ad_jax && sudo chmod 777 /mnt/ad_jax"
    fi
}

run() { # ARGUMENT…, of ad-jax run
    # shellcheck disable=SC2016 # expanded over there
    everywhere 'cd ad_jax || exit
        if kill -0 $(cat run.pid) 2>/dev/null; then
            echo "error: a run is going on: stop it first" >&2
            exit 1
        fi
        rm -f run.pid run.status
        nohup bash -c "\"\$@\" & echo \$! >run.pid; wait \$!; echo \$? >run.status" - \
            env AD_JAX_COMMIT="$(cat commit)" .venv/bin/python -m ad_jax run'"$(printf ' %q' "$@")"' >>run.log 2>&1 </dev/null &
        until [ -s run.pid ]; do sleep 0.1; done'
}

status() { # of the run, on the first VM
    # shellcheck disable=SC2016 # expanded over there
    tpu ssh "$NAME" --worker=0 --command='cd ad_jax && cat run.status 2>/dev/null ||
        if kill -0 $(cat run.pid) 2>/dev/null; then echo running; else echo none; fi'
}

slice() { # its state: READY, PREEMPTED, …; absent where there is none
    gcloud compute tpus tpu-vm describe "$NAME" --zone="$ZONE" --format='value(state)' \
        2>/dev/null || echo absent
}

keep() { # ARGUMENT…, of ad-jax run
    local failures=0 now
    while true; do
        now=$(slice)
        case $now in
        READY)
            now=$(bash "$0" status | tail -n 1 || true) # a VM may be going away
            case $now in
            none) bash "$0" run "$@" || true ;;
            0 | 130 | 143) return "$now" ;; # complete, or stopped as somebody asked
            [0-9]*)
                if ((++failures > ${RESTARTS:-3})); then
                    echo "error: the run ended with status $now once more: see $0 log" >&2
                    return "$now"
                fi
                echo "the run ended with status $now: it is started again"
                bash "$0" run "$@" || true
                ;;
            esac
            ;;
        absent)
            if bash "$0" create; then
                continue
            fi
            echo "no slice could be made: the next attempt follows" >&2
            bash "$0" delete || true # what there is of it
            ;;
        PREEMPTED | TERMINATED | STOPPED)
            echo "the slice is $now: it is made again"
            bash "$0" delete || true
            continue
            ;;
        esac
        sleep "${SECONDS_BETWEEN:-60}"
    done
}

if [[ "${1:-} ${2:-}" != "fetch gs://"* ]]; then
    : "${NAME:?say which slice, as in NAME=ad}" "${ZONE:?say where, as in ZONE=us-west4-a}"
fi
case ${1:-} in
create) create ;;
run)
    run "${@:2}"
    if [[ ! ${DRY_RUN:-} ]]; then
        echo "started: see how it goes with $0 log"
    fi
    ;;
keep)
    if [[ ${DRY_RUN:-} ]]; then # where there is no slice yet
        create
        run "${@:2}"
    else
        keep "${@:2}"
    fi
    ;;
status) status ;;
log) tpu ssh "$NAME" --worker=0 --command='tail -n 100 -F ad_jax/run.log' ;;
stop) everywhere "kill -TERM \$(cat ad_jax/run.pid)" ;;
fetch)
    case ${2:?say which folder} in
    gs://*) call gcloud storage cp --recursive "$2" "${3:-.}" ;;
    *) tpu scp "$NAME:$2" "${3:-.}" --worker=0 --recurse ;;
    esac
    ;;
delete) tpu delete "$NAME" --quiet ;;
*)
    echo "usage: NAME=… ZONE=… $0 create | run --config=… --workdir=… | keep --config=… --workdir=… |" \
        "status | log | stop | fetch DIR [HERE] | delete" >&2
    exit 2
    ;;
esac
