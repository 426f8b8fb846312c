"""Two processes with two simulated devices each, joined over loopback, against one alone."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from ad_jax import checkpoint
from data_pipelines.reader import Histories
from tests.experiments.conftest import ROOT, command

# Four tiles of seven tasks, so that each device has one.
TILES = "--config.collect.tasks_per_tile=2", "--config.tasks.num_validation=0"
LONG = "--config.train.steps=2000"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(workdir, *options, count=2, devices=2, only=None, timeout=60, program=None):
    """Starts the processes of a run, or ``only`` one of them; ``program`` in place of run.py."""
    port = free_port()
    processes = []
    line = command(workdir, *options)
    if program:
        line = [line[0], "-c", program, *line[3:]]
    for number in range(count) if only is None else [only]:
        environment = {
            **os.environ,
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count),
            "JAX_PROCESS_ID": str(number), "AD_JAX_TIMEOUT": str(timeout),
            "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu",
        }  # fmt: skip
        processes.append(
            subprocess.Popen(
                line, cwd=ROOT, env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
        )  # fmt: skip
    return processes


def finish(processes, timeout=300):
    """[(exit status, output)] of each."""
    return [(p.communicate(timeout=timeout)[0], p.returncode)[::-1] for p in processes]


def metrics(workdir):
    path = workdir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for_training(workdir, processes, step=10):
    """Waits until some steps are logged."""
    deadline = time.monotonic() + 200
    while not any(m["step"] >= step for m in metrics(workdir)):
        assert time.monotonic() < deadline and all(p.poll() is None for p in processes)
        time.sleep(0.1)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of one process with one device."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    ((status, output),) = finish(start(workdir, *TILES, count=1, devices=1))
    assert status == 0, output
    return workdir


def test_two_processes_do_what_one_does(tmp_path, alone):
    """Started by local.sh. Only the first one sends curves, of training and in context."""
    script = str(ROOT / "experiments/launch/local.sh")
    devices = {"JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
    watched = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path)}
    process = subprocess.run(
        [script, "2", *command(tmp_path / "run", *TILES, "--config.tracker=wandb")[3:]],
        cwd=ROOT, text=True, timeout=300,
        env={
            **os.environ, **devices, **watched,
            "PORT": str(free_port()), "PYTHON": sys.executable,
        },
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout
    assert process.stdout.count("report/summary.json") == 1, process.stdout  # printed once
    assert process.stdout.count("wandb: wandb sync") == 2, process.stdout
    assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == 2
    shards = [Histories(w / "histories").provenance["shards"] for w in (alone, tmp_path / "run")]
    assert shards[0] == shards[1] and len(shards[0]) == 4  # the same bytes
    losses = [[m["loss"] for m in metrics(w)] for w in (alone, tmp_path / "run")]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    results = [np.load(w / "evaluation/rollouts.npz") for w in (alone, tmp_path / "run")]
    assert (results[0]["task"] == results[1]["task"]).all()
    same = results[0]["returns"] == results[1]["returns"]
    assert same.mean() > 0.7  # rounding may change an action


def test_four_devices_in_one_two_and_four_processes_give_the_same_bits(tmp_path):
    """Histories, losses, parameters and rollouts. Windows, their steps and the parameters are
    sharded over the devices; only the assignment of devices to processes differs."""
    options = "--config.mesh.fsdp=2", "--config.mesh.sequence=2"
    workdirs = [tmp_path / str(count) for count in (1, 2, 4)]
    for workdir, count in zip(workdirs, (1, 2, 4), strict=True):
        shape = dict(count=count, devices=4 // count, timeout=200)
        outputs = finish(start(workdir, *TILES, *options, **shape))
        assert [status for status, _ in outputs] == [0] * count, outputs
    one, *others = map(results_of, workdirs)
    assert len(one["shards"]) == 4 and len(one["losses"]) == 4
    for other in others:
        for name, value in one.items():
            np.testing.assert_equal(other[name], value, name)


def results_of(workdir):
    """Everything that a run has produced, except times."""
    rollouts = np.load(workdir / "evaluation/rollouts.npz")
    return {
        "shards": Histories(workdir / "histories").provenance["shards"],
        "losses": [(m["step"], m["loss"], m["grad_norm"]) for m in metrics(workdir)],
        "parameters": checkpoint.newest(workdir / "checkpoints"),  # with a checksum of all bits
        "rollouts": {name: rollouts[name] for name in ("task", "returns", "action", "reward")},
    }


def test_a_signal_to_one_stops_all_at_one_step_and_they_go_on(tmp_path):
    """Even in the middle of a checkpoint: one is nearly always being written. Both after a start
    and after resuming; and one process resumes what two have begun."""
    workdir, step = tmp_path / "run", 0
    for count, signalled in ((2, 1), (2, 0), (1, 0)):
        processes = start(workdir, *TILES, LONG, "--config.train.checkpoint_every=1", count=count)
        wait_for_training(workdir, processes, step + 10)
        processes[signalled].send_signal(signal.SIGTERM)
        outputs = finish(processes)
        assert [status for status, _ in outputs] == [143] * count, outputs
        assert all("stopped on request" in output for _, output in outputs)
        assert step == 0 or f"resuming from step {step}" in outputs[0][1], outputs
        before, step = step, max(int(p.name) for p in (workdir / "checkpoints").iterdir())
        assert before + 10 <= step < 2000
    steps = [m["step"] for m in metrics(workdir)]
    assert steps == sorted(set(steps))


def test_a_killed_process_does_not_leave_the_other_waiting(tmp_path):
    processes = start(tmp_path / "run", *TILES, LONG, timeout=10)
    wait_for_training(tmp_path / "run", processes)
    processes[1].kill()
    began = time.monotonic()
    (status, output), _ = finish(processes, timeout=60)
    assert status != 0 and time.monotonic() - began < 60
    assert "task:1" in output or "distributed" in output, output


def test_one_that_fails_ends_at_once_and_the_others_soon(tmp_path):
    """With an error that the others do not have, it does not wait for them to end."""
    program = """
from experiments import run
from experiments.stages import collect

def check_faults(*_):
    if run.processes.jax.process_index() == 1:
        raise run.UserError("the rewards are NaN")

collect.check_faults = check_faults
run.entry_point()
"""
    processes = start(tmp_path / "run", *TILES, timeout=10, program=program)
    began = time.monotonic()
    (other, output), (status, said) = finish(processes, timeout=100)
    assert status == 1 and said.endswith("error: the rewards are NaN\n"), said
    assert "Fatal" not in said and other != 0, output
    assert time.monotonic() - began < 70


def test_waiting_for_a_process_that_never_joins_is_bounded(tmp_path):
    ((status, output),) = finish(start(tmp_path / "run", only=0, count=3, timeout=5))
    assert status == 1
    assert "error: process 0 of 3 waited 5 s" in output and len(output.splitlines()) == 1, output
    assert "these processes were not started: 1, 2" in output, output
    assert not list((tmp_path / "run").iterdir())  # nothing is left for the next start to see
