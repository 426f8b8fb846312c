"""The launch scripts, with stand-ins for what they call."""

import os
import signal
import subprocess
import sys
import time

import pytest

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


def test_processes_find_each_other_under_slurm():
    """With the variables that srun sets."""
    program = (
        "from ad_jax import parallel; parallel.start(); import jax;"
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
