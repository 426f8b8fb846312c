#!/bin/bash
# A run on a Google Cloud TPU VM, or on all VMs of a pod slice. It needs gcloud and, for more than
# one VM, a bucket that all of them can access (--workdir=gs://BUCKET/DIR; then omit SHARE) or an
# NFS share (Filestore, say), which is mounted at /mnt/ad_jax on all of them:
#
#   export NAME=ad ZONE=us-west4-a TYPE=v5litepod-16 [SHARE=10.0.0.2:/vol1] [SPOT=1] [VERSION=…]
#   experiments/launch/tpu_vm.sh create      # creates the VMs and installs the current commit
#   experiments/launch/tpu_vm.sh run --config=FILE.py:PRESET --workdir=gs://BUCKET/DIR [--config.x=…]
#   experiments/launch/tpu_vm.sh keep --config=… --workdir=…   # both, also after a preemption
#   experiments/launch/tpu_vm.sh status      # of the run: running, stopped, none, bare, or its exit status
#   experiments/launch/tpu_vm.sh log         # of the first VM, until Ctrl-C
#   experiments/launch/tpu_vm.sh stop        # saves; "run" resumes
#   experiments/launch/tpu_vm.sh fetch DIR [HERE]              # also gs://BUCKET/DIR
#   experiments/launch/tpu_vm.sh delete
#
# "run" returns once the run has started. The run does not need this machine, and writes
# ~/ad_jax/run.log on each VM. "keep" watches the run: every minute (SECONDS_BETWEEN) it recreates
# the slice if it was preempted, starts the run if there is none, and restarts it after a failure,
# at most three times (RESTARTS). It exits with the status of the run, or with 0 after "stop".
#
# A bare image is enough: "create" installs uv, which fetches Python 3.11 (PYTHON=3.12, or the path
# of an interpreter on the VMs, selects another). With DRY_RUN=1 all commands are printed, and
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

make() { # the VMs
    tpu create "$NAME" --accelerator-type="${TYPE:?set the kind of slice, such as TYPE=v5litepod-16}" \
        --version="${VERSION:-v2-alpha-tpuv5-lite}" ${SPOT:+--spot}
}

install() { # on VMs that exist
    code=$(mktemp -d)
    trap 'rm -r "$code"' EXIT
    git archive --format=tar.gz --output="$code/ad_jax.tar.gz" HEAD
    tpu scp "$code/ad_jax.tar.gz" "$NAME": --worker=all
    everywhere "set -e
        mkdir -p ad_jax && tar -xzf ad_jax.tar.gz -C ad_jax && cd ad_jax
        echo $(git rev-parse --short=10 HEAD) >commit
        export PATH=\$HOME/.local/bin:\$PATH
        command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
        uv venv -q --clear --python=$(printf %q "${PYTHON:-3.11}") .venv
        uv pip install -q -c constraints.txt -e '.[tpu,gcs]'
        if [ '${SHARE:-}' ] && ! mountpoint -q /mnt/ad_jax; then
            sudo apt-get install -qy nfs-common && sudo mkdir -p /mnt/ad_jax
            sudo mount -o rw '${SHARE:-}' /mnt/ad_jax && sudo chmod 777 /mnt/ad_jax
        fi
        touch installed"
}

run() { # ARGUMENT…, of ad-jax run
    # shellcheck disable=SC2016 # expanded on the VMs
    everywhere 'cd ad_jax || exit
        if kill -0 $(cat run.pid) 2>/dev/null; then
            echo "error: a run is already in progress: stop it first" >&2
            exit 1
        fi
        rm -f run.pid run.status stopped
        nohup bash -c "\"\$@\" & echo \$! >run.pid; wait \$!; echo \$? >run.status" - \
            env AD_JAX_COMMIT="$(cat commit)" .venv/bin/python -m ad_jax run'"$(printf ' %q' "$@")"' >>run.log 2>&1 </dev/null &
        for i in $(seq 100); do
            [ -s run.pid ] && exit
            sleep 0.1
        done
        echo "error: the run could not be started: check whether the disk is full" >&2
        exit 1'
}

status() { # on the first VM
    # shellcheck disable=SC2016 # expanded on the VM
    tpu ssh "$NAME" --worker=0 --command='cd ad_jax 2>/dev/null && [ -e installed ] || {
            echo bare
            exit
        }
        if kill -0 $(cat run.pid) 2>/dev/null; then
            echo running
        elif [ -e stopped ]; then
            echo stopped
        else
            cat run.status 2>/dev/null || echo none
        fi'
}

slice() { # its state: READY, PREEMPTED, …; absent if there is none, unknown if gcloud fails
    local said
    if said=$(gcloud compute tpus tpu-vm describe "$NAME" --zone="$ZONE" \
        --format='value(state)' 2>&1); then
        echo "$said" | tail -n 1
    elif [[ $said == *NOT_FOUND* ]]; then
        echo absent
    else
        echo "$said" >&2
        echo unknown
    fi
}

keep() { # ARGUMENT…, of ad-jax run
    local failures=0 tries=0 now # failures of the run, attempts to start one, and the current state
    while true; do
        now=$(slice)
        if [[ $now == READY ]]; then
            now=$(bash "$0" status | tail -n 1 || true) # a VM may be going away
        fi
        case $now in
        0) return ;;
        stopped)
            echo "the run was stopped on request"
            return
            ;;
        running) tries=0 ;;
        bare | none)
            if ((++tries > ${RESTARTS:-3} + 1)); then
                echo "error: no run could be started there: see above" >&2
                return 1
            fi
            if [[ $now == bare ]]; then
                bash "$0" install || true
            else
                bash "$0" run "$@" || true
            fi
            ;;
        143) bash "$0" run "$@" || true ;; # stopped by a preemption or for maintenance
        [0-9]*)
            if ((++failures > ${RESTARTS:-3})); then
                echo "error: the run ended with status $now again: see $0 log" >&2
                return "$now"
            fi
            echo "the run ended with status $now: starting it again"
            bash "$0" run "$@" || true
            ;;
        absent) bash "$0" make || echo "no slice could be created: trying again" >&2 ;;
        PREEMPTED | TERMINATED | STOPPED)
            echo "the slice is $now: creating it again"
            bash "$0" delete || true
            ;;
        esac
        sleep "${SECONDS_BETWEEN:-60}"
    done
}

kept() { # whether the workdir outlives the VMs
    local word
    for word in "$@"; do
        case $word in
        --workdir=gs://*) return ;;
        --workdir=/mnt/ad_jax/*)
            if [[ ${SHARE:-} ]]; then
                return
            fi
            ;;
        esac
    done
    echo "error: give a workdir that outlives the VMs: gs://BUCKET/DIR, or /mnt/ad_jax/DIR with SHARE" >&2
    return 2
}

if [[ "${1:-} ${2:-}" != "fetch gs://"* ]]; then
    : "${NAME:?set the name of the slice, such as NAME=ad}" "${ZONE:?set the zone, such as ZONE=us-west4-a}"
fi
case ${1:-} in
create)
    make
    install
    ;;
make) make ;;
install) install ;;
run)
    run "${@:2}"
    if [[ ! ${DRY_RUN:-} ]]; then
        echo "started: follow it with $0 log"
    fi
    ;;
keep)
    kept "${@:2}"
    if [[ ${DRY_RUN:-} ]]; then # there may be no slice yet
        make
        install
        run "${@:2}"
    else
        keep "${@:2}"
    fi
    ;;
status) status ;;
log) tpu ssh "$NAME" --worker=0 --command='tail -n 100 -F ad_jax/run.log' ;;
stop) everywhere "cd ad_jax && touch stopped && kill -TERM \$(cat run.pid)" ;;
fetch)
    case ${2:?give the folder to fetch} in
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
