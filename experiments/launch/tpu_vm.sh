#!/bin/bash
# A run on a TPU VM, or on all VMs of a pod slice, of Google Cloud; needs gcloud and, for more than
# one VM, a bucket that they all may use (--workdir=gs://BUCKET/DIR; then leave SHARE out) or an NFS
# share (Filestore, say) that they all see, which is mounted at /mnt/ad_jax:
#
#   export NAME=ad ZONE=us-west4-a TYPE=v5litepod-16 SHARE=10.0.0.2:/vol1 [SPOT=1] [VERSION=…]
#   experiments/launch/tpu_vm.sh create      # the VMs, with what is committed here installed
#   experiments/launch/tpu_vm.sh run --config=FILE.py:PRESET --workdir=/mnt/ad_jax/DIR [--config.x=…]
#   experiments/launch/tpu_vm.sh log         # of the first VM, until Ctrl-C
#   experiments/launch/tpu_vm.sh stop        # saves; "run" goes on
#   experiments/launch/tpu_vm.sh fetch DIR [HERE]
#   experiments/launch/tpu_vm.sh delete
#
# "run" returns once it has started the run: it goes on without this machine, and writes
# ~/ad_jax/run.log on each VM. The VMs' image has Python 3.10 and the project needs 3.11, so that
# "create" installs uv, which fetches one (PYTHON_VERSION=3.12 asks for another).
set -euo pipefail

tpu() { # COMMAND [OPTION…], of the slice
    gcloud compute tpus tpu-vm "$1" --zone="${ZONE:?say where, as in ZONE=us-west4-a}" "${@:2}"
}

everywhere() { # a shell command on every VM
    tpu ssh "$NAME" --worker=all --command="$1"
}

: "${NAME:?say which slice, as in NAME=ad}"
case ${1:-} in
create)
    code=$(mktemp -d)
    trap 'rm -r "$code"' EXIT
    git archive --format=tar.gz --output="$code/ad_jax.tar.gz" HEAD
    tpu create "$NAME" --accelerator-type="${TYPE:?say what, as in TYPE=v5litepod-16}" \
        --version="${VERSION:-v2-alpha-tpuv5-lite}" ${SPOT:+--spot}
    tpu scp "$code/ad_jax.tar.gz" "$NAME": --worker=all
    everywhere "mkdir -p ad_jax && tar -xzf ad_jax.tar.gz -C ad_jax && cd ad_jax &&
        python3 -m pip install -q --user uv && uv=\$(python3 -m site --user-base)/bin/uv &&
        \$uv venv -q --python=${PYTHON_VERSION:-3.11} .venv &&
        \$uv pip install -q -c constraints.txt -e '.[tpu,gcs]'"
    if [[ ${SHARE:-} ]]; then
        everywhere "sudo apt-get install -qy nfs-common && sudo mkdir -p /mnt/ad_jax &&
            sudo mount -o rw $SHARE /mnt/ad_jax && sudo chmod 777 /mnt/ad_jax"
    fi
    ;;
run)
    everywhere "cd ad_jax || exit
        if kill -0 \$(cat run.pid) 2>/dev/null; then
            echo 'error: a run is going on: stop it first' >&2
            exit 1
        fi
        nohup .venv/bin/python -m ad_jax run$(printf ' %q' "${@:2}") \
            >>run.log 2>&1 </dev/null &
        echo \$! >run.pid"
    echo "started: see how it goes with $0 log"
    ;;
log)
    tpu ssh "$NAME" --worker=0 --command='tail -n 100 -F ad_jax/run.log'
    ;;
stop)
    everywhere 'kill -TERM $(cat ad_jax/run.pid)'
    ;;
fetch)
    tpu scp "$NAME:${2:?say which folder}" "${3:-.}" --worker=0 --recurse
    ;;
delete)
    tpu delete "$NAME" --quiet
    ;;
*)
    echo "usage: NAME=… ZONE=… $0 create | run --config=… --workdir=… | log | stop | fetch DIR | delete" >&2
    exit 2
    ;;
esac
