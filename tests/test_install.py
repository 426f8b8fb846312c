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
        [sys.executable, "-c", "from ad_jax.__main__ import main; main()", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(installed)}, text=True,
        capture_output=True,
    )  # fmt: skip


def test_only_what_the_commands_need_is_installed(installed):
    assert {path.name for path in installed.iterdir()} == {"ad_jax"}
    assert (installed / "ad_jax" / "py.typed").exists()
    bundled = installed / "ad_jax" / "bundled"
    assert {path.name for path in bundled.iterdir()} == {"data_pipelines", "experiments"}
    launchers = {path.name for path in (bundled / "experiments" / "launch").iterdir()}
    assert {"local.sh", "slurm.sbatch", "tpu_vm.sh", "gke.py"} <= launchers
    assert (bundled / "experiments" / "page" / "page.html").exists()


def test_the_command_takes_our_configs_by_name_in_any_folder(installed, tmp_path):
    options = "--workdir=w", "--stages=collect"
    run = ad_jax_command(installed, tmp_path, "run", "--config", "dark_room:smoke", *options)
    assert run.returncode == 0, run.stderr
    assert "collect: 15,360 steps of 6 tasks" in run.stdout
    assert (tmp_path / "w" / "histories").is_dir()

    options = "--workdir=v", "--config.train.steps=-1"
    run = ad_jax_command(installed, tmp_path, "run", "--config=dark_room:smoke", *options)
    assert run.returncode == 1 and "train.steps=-1" in run.stderr


@pytest.mark.parametrize("arguments", [[], ["fly"]])
def test_a_command_that_there_is_not(installed, tmp_path, arguments):
    run = ad_jax_command(installed, tmp_path, *arguments)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("usage: ad-jax COMMAND [--help] [options]\n\n  run  ")


def test_a_users_own_folders_may_have_our_names(installed, tmp_path):
    """And modules next to these folders can be named in a config."""
    for name in ("experiments", "data_pipelines"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not this one')")
    (tmp_path / "rooms.py").write_text("from ad_jax.envs.dark_room import DarkRoom as Room")
    options = (
        "--config.env.name=rooms:Room", "--config.collect.min_improved=0", "--stages=collect",
        "--workdir=w",
    )  # fmt: skip
    run = ad_jax_command(installed, tmp_path, "run", "--config=dark_room:smoke", *options)
    assert run.returncode == 0, run.stderr
    assert "collect: " in run.stdout


def test_a_learner_acts_far_from_the_clone(installed, tmp_path):
    code = (
        "import ad_jax; learner = ad_jax.load('dark_room'); state = learner.reset(seed=0); "
        "print(learner.act(state, [4, 4], 0.0, True)[0] in range(5), ad_jax.__file__)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["True", f"{installed}/ad_jax/__init__.py"]
    assert run.stderr == ""


def test_the_commands_say_what_they_take(installed, tmp_path):
    assert "--workdir" in ad_jax_command(installed, tmp_path, "run", "--help").stdout
    assert "--learner" in ad_jax_command(installed, tmp_path, "play", "--help").stdout
    assert "--from" in ad_jax_command(installed, tmp_path, "convert", "--help").stdout
    assert "--figure" in ad_jax_command(installed, tmp_path, "reproduce", "--help").stdout


def test_one_version():
    told = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=ROOT, text=True, capture_output=True
    )
    assert told.stdout.strip() == ad_jax.__version__
