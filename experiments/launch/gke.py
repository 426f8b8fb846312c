"""Prints the JobSet of a run on a TPU slice of Google Kubernetes Engine, and starts nothing.

    python -m experiments.launch.gke --name=ad --image=IMAGE --topology=4x4 -- \\
        --config=FILE.py:PRESET --workdir=gs://BUCKET/DIR [--config.x=…] | kubectl apply -f -

IMAGE is built from the project's Dockerfile, as its first lines show. The workdir is in a bucket,
which the pods access as --service-account=NAME (Workload Identity), or below /runs, where
--claim=CLAIM mounts a persistent volume that all pods can write to (Filestore, say). A pod that is
evicted saves within its grace period and then fails, so the JobSet restarts all pods, and they
resume the run.
``kubectl apply --dry-run=server -f -`` asks the cluster whether it would take the JobSet.
"""

import argparse
import json
import math
import sys

from ad_jax.errors import UserError

CHIPS_PER_HOST = 4


def jobset(
    name: str, image: str, topology: str, accelerator: str, claim: str | None,
    service_account: str | None, restarts: int, arguments: list[str],
) -> dict:  # fmt: skip
    """The JobSet as an object of the Kubernetes API.

    Args:
      name: of the JobSet.
      image: of the container.
      topology: chips along each axis of the slice, such as 4x4.
      accelerator: GKE's name of the kind of TPU.
      claim: the persistent volume claim mounted at /runs; None if the workdir is in a bucket.
      service_account: of Kubernetes, for the pods; None for the default one.
      restarts: how often all pods are started again after one has failed.
      arguments: of ``ad-jax run``.

    Raises:
      UserError: the topology is not valid, or the workdir would be lost with the pods.
    """
    workdirs = [a.partition("=")[2] for a in arguments if a.startswith("--workdir=")]
    kept = ("gs://", "/runs/") if claim else "gs://"
    if len(workdirs) != 1 or not workdirs[0].startswith(kept):
        raise UserError(
            f"--workdir={''.join(workdirs)}: give one that outlives the pods: gs://BUCKET/DIR, or "
            "/runs/DIR with --claim"
        )
    try:
        chips = math.prod(int(size) for size in topology.split("x"))
    except ValueError:
        chips = 0
    if chips < 1 or (chips > CHIPS_PER_HOST and chips % CHIPS_PER_HOST):
        raise UserError(f"--topology={topology}: give the chips along each axis, such as 4x4")
    hosts, chips_per_host = -(-chips // CHIPS_PER_HOST), min(chips, CHIPS_PER_HOST)
    container = {
        "name": "run",
        "image": image,
        "args": ["run", *arguments, "--stopped_status=1"],
        "ports": [{"containerPort": 8471}, {"containerPort": 8476}],
        "resources": {"limits": {"google.com/tpu": chips_per_host}},
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 120,
        "nodeSelector": {
            "cloud.google.com/gke-tpu-accelerator": accelerator,
            "cloud.google.com/gke-tpu-topology": topology,
        },
        "containers": [container],
    }
    if claim:
        container["volumeMounts"] = [{"name": "runs", "mountPath": "/runs"}]
        pod["volumes"] = [{"name": "runs", "persistentVolumeClaim": {"claimName": claim}}]
    if service_account:
        pod["serviceAccountName"] = service_account
    job = {
        "parallelism": hosts,
        "completions": hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "template": {"spec": pod},
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": name,
            "annotations": {
                "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
            },
        },
        "spec": {
            "failurePolicy": {"maxRestarts": restarts},
            "replicatedJobs": [{"name": "slice", "replicas": 1, "template": {"spec": job}}],
        },
    }


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.launch.gke")
    parser.add_argument("--name", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--topology", required=True, help="chips along each axis, such as 4x4")
    parser.add_argument("--accelerator", default="tpu-v5-lite-podslice")
    parser.add_argument("--claim", help="persistent volume claim, mounted at /runs")
    parser.add_argument(
        "--service-account", help="Kubernetes service account with access to the bucket"
    )
    parser.add_argument("--restarts", type=int, default=100)
    parser.add_argument("arguments", nargs="+", help="the arguments of ad-jax run, after --")
    try:
        print(json.dumps(jobset(**vars(parser.parse_args(arguments))), indent=2))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
