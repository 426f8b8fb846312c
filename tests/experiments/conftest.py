"""Runs of the whole program on the smoke preset, made once and copied."""

import os
import pathlib
import subprocess
import sys

import pytest

from experiments.configs import dark_room
from experiments.runtime.interruption import Interruption

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = "experiments/configs/dark_room.py"


def command(workdir, *options, preset="smoke", config=CONFIG):
    """The command line of a run."""
    return [
        sys.executable, "-m", "experiments.run",
        f"--config={config if preset is None else f'{config}:{preset}'}", f"--workdir={workdir}",
        *options,
    ]  # fmt: skip


def start(*arguments, environment=None, **options) -> subprocess.Popen:
    """Starts a run, with more environment variables; stdout and stderr are merged."""
    return subprocess.Popen(
        command(*arguments, **options), cwd=ROOT, env={**os.environ, **(environment or {})},
        text=True, encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """(exit status, output)."""
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory):
    """A finished run on two devices: (workdir, output).

    The folder's name is not ASCII, but the locale is.
    """
    workdir = tmp_path_factory.mktemp("smoke") / "größe"
    environment = {"LC_ALL": "C", "JAX_NUM_CPU_DEVICES": "2"}
    status, output = finish(start(workdir, environment=environment))
    assert status == 0, output
    return workdir, output


@pytest.fixture
def config():
    """The smoke preset, to be changed."""
    return dark_room.get_config("smoke")


@pytest.fixture
def never():
    """An interruption that never comes."""
    return Interruption()
