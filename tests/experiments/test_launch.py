"""The launch scripts, with stand-ins for what they call."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from ad_jax.errors import UserError
from experiments.launch import gke
from tests.experiments.conftest import ROOT
from tests.experiments.test_processes import finish, free_port

LAUNCH = ROOT / "experiments/launch"
# Stands for Python: notes its arguments, and ends well when it is told to stop.
RUN = """#!/bin/bash
echo "$@" > "$OUT/run-$JAX_PROCESS_ID$SLURM_PROCID"
trap 'echo saved > "$OUT/saved-$JAX_PROCESS_ID$SLURM_PROCID"; exit ${STATUS:-0}' TERM
for i in $(seq ${TENTHS:-1}); do sleep 0.1; done
"""
# Two tasks, and signals are handed on.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for i in 0 1; do SLURM_PROCID=$i "$@" & runs+=($!); done
trap 'kill -TERM "${runs[@]}"' TERM
wait "${runs[@]}" || true
wait "${runs[@]}"
"""


@pytest.fixture
def stand_ins(tmp_path):
    """The environment of a machine where only the stand-ins are to be found."""
    scripts = {"run": RUN, "srun": SRUN, "scontrol": '#!/bin/bash\necho "$@" > "$OUT/requests"\n'}
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    return {
        **os.environ, "PATH": path, "OUT": str(tmp_path), "PYTHON": str(tmp_path / "run"),
        "SLURM_JOB_ID": "77",
    }  # fmt: skip


def launch(environment, script, *arguments):
    return subprocess.Popen(["bash", str(LAUNCH / script), *arguments], env=environment)


def wait_for(path):
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("script", ["slurm.sbatch", "local.sh"])
def test_arguments_arrive_and_a_good_end_is_one(stand_ins, tmp_path, script):
    count = ["2"] if script == "local.sh" else []
    assert launch(stand_ins, script, *count, "--config=a b", "--workdir=w").wait(20) == 0
    for number in (0, 1):
        want = "-m experiments.run --config=a b --workdir=w\n"
        assert (tmp_path / f"run-{number}").read_text() == want
    assert not (tmp_path / "requests").exists()


@pytest.mark.parametrize("script", ["slurm.sbatch", "local.sh"])
@pytest.mark.parametrize("status", [0, 3])
def test_a_signal_stops_all_and_what_was_saved_goes_back_into_the_queue(
    stand_ins, tmp_path, script, status
):
    environment = {**stand_ins, "TENTHS": "200", "STATUS": str(status)}
    process = launch(environment, script, *(["2"] if script == "local.sh" else []))
    for number in (0, 1):
        wait_for(tmp_path / f"run-{number}")
    time.sleep(0.2)  # for the traps to be set
    process.send_signal(signal.SIGTERM)
    assert bool(process.wait(20)) == bool(status)
    assert (tmp_path / "saved-0").exists() and (tmp_path / "saved-1").exists()
    requeued = (tmp_path / "requests").exists()
    assert requeued == (script == "slurm.sbatch" and status == 0)
    if requeued:
        assert (tmp_path / "requests").read_text() == "requeue 77\n"


def test_slurm_options_ask_for_a_signal_and_a_second_try():
    text = (LAUNCH / "slurm.sbatch").read_text()
    for option in ("--signal=B:TERM@", "--requeue", "--open-mode=append"):
        assert f"#SBATCH {option}" in text


GCLOUD = """#!/bin/bash
for word in "$@"; do printf '%s\\n' "$word"; done >> "$OUT/gcloud"
echo == >> "$OUT/gcloud"
"""


def tpu_vm(tmp_path, *arguments, **environment):
    """Runs the script with a stand-in for gcloud; its status and the calls."""
    (tmp_path / "gcloud_here").mkdir(exist_ok=True)
    program = tmp_path / "gcloud_here/gcloud"
    program.write_text(GCLOUD)
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", str(LAUNCH / "tpu_vm.sh"), *arguments], cwd=ROOT, text=True, capture_output=True,
        env={**os.environ, "PATH": path, "OUT": str(tmp_path), **environment},
    )  # fmt: skip
    calls = tmp_path / "gcloud"
    calls = calls.read_text().split("==\n")[:-1] if calls.exists() else []
    return result, [call.splitlines() for call in calls]


def test_on_tpu_vms_the_run_starts_on_every_worker_with_its_arguments(tmp_path):
    where = {"NAME": "ad", "ZONE": "z"}
    result, calls = tpu_vm(tmp_path, "run", "--config=a b", "--workdir=/mnt/w", **where)
    assert result.returncode == 0, result.stderr
    (call,) = calls
    assert call[:7] == ["compute", "tpus", "tpu-vm", "ssh", "--zone=z", "ad", "--worker=all"]
    command = call[7].removeprefix("--command=cd ad_jax && exec .venv/bin/python ")
    # As the shell over there splits it.
    words = subprocess.run(["bash", "-c", f"printf '%s\\n' {command}"], capture_output=True)
    assert words.stdout.decode().splitlines() == [
        "-m", "experiments.run", "--config=a b", "--workdir=/mnt/w"
    ]  # fmt: skip


def test_tpu_vms_get_the_committed_code_and_the_share(tmp_path):
    where = {"NAME": "ad", "ZONE": "z", "TYPE": "v5litepod-16", "SHARE": "1.2.3.4:/v", "SPOT": "1"}
    result, calls = tpu_vm(tmp_path, "create", **where)
    assert result.returncode == 0, result.stderr
    assert [call[3] for call in calls] == ["create", "scp", "ssh", "ssh"]
    assert {"--accelerator-type=v5litepod-16", "--spot"} <= set(calls[0])
    assert calls[1][5].endswith("ad_jax.tar.gz") and "--worker=all" in calls[1]
    assert "-c constraints.txt -e '.[tpu,gcs]'" in "".join(calls[2])
    assert "mount -o rw 1.2.3.4:/v /mnt/ad_jax" in "".join(calls[3])


@pytest.mark.parametrize("arguments", [["run"], ["fly"], []])
def test_tpu_vms_without_a_name_or_a_verb(tmp_path, arguments):
    given = {} if arguments == ["run"] else {"NAME": "ad", "ZONE": "z"}
    result, calls = tpu_vm(tmp_path, *arguments, **given)
    assert result.returncode and not calls
    assert "say which slice" in result.stderr or result.stderr.startswith("usage: ")


@pytest.mark.parametrize("topology, hosts, chips", [("4x4", 4, 4), ("2x2", 1, 4), ("1x1", 1, 1)])
def test_a_jobset_has_a_pod_for_each_host_of_the_slice(capsys, topology, hosts, chips):
    gke.main(
        ["--name=ad", "--image=i", f"--topology={topology}", "--claim=c", "--", "--config=a b"]
    )
    spec = yaml.safe_load(capsys.readouterr().out)["spec"]
    assert spec["failurePolicy"]["maxRestarts"] > 0
    job = spec["replicatedJobs"][0]["template"]["spec"]
    assert job["completions"] == job["parallelism"] == hosts and job["backoffLimit"] == 0
    pod = job["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= 60 and pod["restartPolicy"] == "Never"
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == topology
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": chips}
    want = ["python", "-m", "experiments.run", "--config=a b", "--stopped_status=1"]
    assert container["command"] == want


@pytest.mark.parametrize("topology", ["four", "3x3", "0x4"])
def test_a_slice_that_there_is_not(topology):
    with pytest.raises(UserError, match=f"--topology={topology}"):
        gke.jobset("ad", "i", topology, "a", "c", 1, [])


@pytest.mark.parametrize("script", ["local.sh", "slurm.sbatch", "tpu_vm.sh"])
def test_the_shell_can_read_every_script(script):
    subprocess.run(["bash", "-n", str(LAUNCH / script)], check=True)


def test_processes_find_each_other_under_slurm():
    """With the variables that srun sets."""
    program = (
        "from ad_jax.distributed import processes; processes.start(); import jax;"
        "print(jax.process_index(), jax.process_count(), jax.device_count())"
    )
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={
                **{k: v for k, v in os.environ.items() if k != "XLA_FLAGS"},
                "SLURM_JOB_ID": "77", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2",
                "SLURM_PROCID": str(number), "SLURM_LOCALID": str(number),
                "SLURM_STEP_NUM_NODES": "1", "JAX_COORDINATOR_PORT": port,
                "JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu", "AD_JAX_TIMEOUT": "60",
            },
        )
        for number in (0, 1)
    ]  # fmt: skip
    outputs = finish(processes)
    assert [status for status, _ in outputs] == [0, 0], outputs
    assert [o.strip().splitlines()[-1] for _, o in outputs] == ["0 2 2", "1 2 2"]
