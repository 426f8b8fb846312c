"""Who is not there yet; real processes are in test_processes.py."""

import time

import pytest

from experiments.runtime import joining


def test_it_is_known_who_did_not_come(tmp_path):
    folder = tmp_path / joining.FOLDER
    with joining._present(folder, 0, 4) as absent:
        (folder / "1").write_text(str(time.time()))
        (folder / "3").write_text(str(time.time() - 3600))  # was killed while it waited
        assert absent() == [2, 3]
        assert not (folder / "0").exists()  # it gives up now


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
