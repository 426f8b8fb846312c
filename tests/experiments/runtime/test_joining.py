"""Which processes are missing. Tests with real processes are in test_processes.py."""

import os
import subprocess
import sys
import time

import pytest

from experiments.runtime import joining


def test_it_is_known_who_did_not_come(tmp_path):
    folder = tmp_path / joining.FOLDER
    with joining._present(folder, 0, 4) as absent:
        (folder / "1").write_text(str(time.time()))
        (folder / "3").write_text(str(time.time() - 3600))  # was killed while waiting
        assert absent() == [2, 3]
        assert not (folder / "0").exists()  # this process stops waiting now


def test_nothing_is_left_by_those_that_came(tmp_path):
    folder = tmp_path / joining.FOLDER
    with joining._present(folder, 0, 2), joining._present(folder, 1, 2) as absent:
        assert absent() == []
    assert not folder.exists()


@pytest.mark.parametrize("arguments", [["--workdir=DIR"], ["--config=x", "--workdir", "DIR"]])
def test_the_workdir_is_found_among_the_arguments(arguments):
    assert joining._workdir(arguments).name == "DIR"
    assert joining._workdir([]) is None


def test_a_process_that_is_alone_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(joining.processes, "start", lambda absent: None)
    joining.join([f"--workdir={tmp_path}"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unknown backend")])
def test_a_platform_that_is_not_there_is_one_line(monkeypatch, error):
    """JAX_PLATFORMS=cuda on a machine without a GPU."""

    def devices():
        raise error

    monkeypatch.setattr(joining.processes, "start", lambda absent: None)
    monkeypatch.setattr(joining.jax, "devices", devices)
    with pytest.raises(SystemExit, match=r"^error: JAX finds no device for JAX_PLATFORMS="):
        joining.join([])


@pytest.mark.parametrize(
    "variables, said",
    [
        ({"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1"}, "JAX_COORDINATOR_ADDRESS is set: also set"),
        ({"SLURM_PROCID": "x"}, "SLURM_PROCID=x is not a number"),
        ({"AD_JAX_TIMEOUT": "soon"}, "AD_JAX_TIMEOUT=soon is not a number of seconds"),
        ({"AD_JAX_TIMEOUT": "0"}, "AD_JAX_TIMEOUT=0 is not a number of seconds"),
    ],
)
def test_variables_that_say_nothing_clear_are_one_line(monkeypatch, variables, said):
    processes = {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}
    if "AD_JAX_TIMEOUT" in variables:
        variables = {**variables, **processes, "JAX_COORDINATOR_ADDRESS": "127.0.0.1:1"}
    if "SLURM_PROCID" in variables:
        names = joining.processes._LAUNCHERS[0]
        variables = {**dict.fromkeys(names, "2"), **variables}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=f"^error: {said}"):
        joining.join([])


@pytest.mark.parametrize(
    "setting",
    [
        "jax_disable_jit=1", "jax_enable_x64=1", "jax_numpy_dtype_promotion=strict",
        "jax_numpy_rank_promotion=raise", "jax_transfer_guard=disallow",
        "jax_transfer_guard_device_to_host=disallow_explicit",
    ],
)  # fmt: skip
def test_settings_with_which_nothing_would_run_are_refused(setting):
    """As JAX itself reads them from the environment."""
    name, value = setting.split("=")
    name = name.upper()
    program = "from experiments.runtime import joining; joining.join([])"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, name: value},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {name}=") and done.stderr.count("\n") == 1
