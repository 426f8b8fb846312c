"""What `pip install .` installs, used from a folder far from the clone."""

import os
import pathlib
import subprocess
import sys

import pytest

import ad_jax

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder with the packages, as pip lays them out."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_py", "--build-lib", folder], cwd=ROOT, check=True
    )
    return folder


def ad_jax_command(installed, folder, *arguments):
    return subprocess.run(
        [sys.executable, "-c", "from experiments.__main__ import main; main()", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(installed)}, text=True,
        capture_output=True,
    )  # fmt: skip


def test_only_what_the_commands_need_is_installed(installed):
    packages = {"ad_jax", "data_pipelines", "experiments"}
    assert {path.name for path in installed.iterdir()} == packages
    assert all((installed / package / "py.typed").exists() for package in packages)
    launchers = {path.name for path in (installed / "experiments" / "launch").iterdir()}
    assert {"local.sh", "slurm.sbatch", "tpu_vm.sh", "gke.py"} <= launchers


def test_the_command_takes_our_configs_by_name_in_any_folder(installed, tmp_path):
    options = "--workdir=w", "--stages=collect"
    run = ad_jax_command(installed, tmp_path, "run", "--config", "dark_room:smoke", *options)
    assert run.returncode == 0, run.stderr
    assert "collect: 17,920 steps of 7 tasks" in run.stdout
    assert (tmp_path / "w" / "histories").is_dir()

    options = "--workdir=v", "--config.train.steps=-1"
    run = ad_jax_command(installed, tmp_path, "run", "--config=dark_room:smoke", *options)
    assert run.returncode == 1 and "train.steps=-1" in run.stderr


@pytest.mark.parametrize("arguments", [[], ["fly"]])
def test_a_command_that_there_is_not(installed, tmp_path, arguments):
    run = ad_jax_command(installed, tmp_path, *arguments)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == "usage: ad-jax run|reproduce [--help] [options]\n"


def test_the_commands_say_what_they_take(installed, tmp_path):
    assert "--workdir" in ad_jax_command(installed, tmp_path, "run", "--help").stdout
    assert "--figure" in ad_jax_command(installed, tmp_path, "reproduce", "--help").stdout


def test_one_version():
    told = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=ROOT, text=True, capture_output=True
    )
    assert told.stdout.strip() == ad_jax.__version__
