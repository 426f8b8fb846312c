import errno
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys

import pytest

from ad_jax import config as config_module
from ad_jax.config import flat
from ad_jax.errors import UserError
from experiments.runtime import workdir
from experiments.runtime.workdir import Workdir


def changed(config, key):
    """A copy of a config with another value of a number."""
    other = config.copy_and_resolve_references()
    other.update_from_flattened_dict({key: type(value := flat(config.to_dict())[key])(value * 2)})
    return other


def leave(folder, *names):
    """Creates files as stages leave them."""
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("made with the first config")


def test_the_same_config_comes_back_and_another_one_is_refused_by_key(tmp_path, config):
    Workdir(tmp_path, config).close()
    Workdir(tmp_path, config).close()
    leave(tmp_path, "histories/shard", "checkpoints/20")
    assert json.loads((tmp_path / "config.json").read_text())["train"]["steps"] == 40
    config.train.steps = 41
    config.env.kwargs.size = 4
    with pytest.raises(
        UserError, match=r"env\.kwargs\.size was 3, is 4, train\.steps was 40, is 41"
    ):
        Workdir(tmp_path, config)
    assert json.loads((tmp_path / "config.json").read_text())["train"]["steps"] == 40


def test_a_workdir_in_use_is_refused_and_freed_by_the_end_of_the_process(tmp_path, config):
    hold = (
        "import sys; from experiments.runtime.workdir import Workdir; "
        "from experiments.configs import dark_room; "
        f"w = Workdir({str(tmp_path)!r}, dark_room.get_config('smoke')); "
        "print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"in use by process {process.pid} on {platform.node()}"):
        Workdir(tmp_path, config)
    process.kill()
    process.wait()
    Workdir(tmp_path, config).close()


def test_a_workdir_of_an_older_version_opens(tmp_path, config, monkeypatch):
    """A new key has its default, a renamed one its value; only another value is refused."""
    Workdir(tmp_path, config).close()
    leave(tmp_path, "histories/shard", "checkpoints/20", "evaluation/rollouts.npz")
    path = tmp_path / "config.json"
    stored = json.loads(path.read_text())
    del stored["train"]["label_smoothing"], stored["evaluation"]["temperature"]
    stored["model"]["cells"] = stored["model"].pop("width")
    stored["train"]["no_longer_there"] = 1
    path.write_text(json.dumps(stored))
    monkeypatch.setitem(config_module.RENAMED, "model.cells", "model.width")
    Workdir(tmp_path, config).close()
    path.write_text(json.dumps(stored))
    config.train.label_smoothing = 0.1
    with pytest.raises(UserError, match=r"\(train.label_smoothing was 0.0, is 0.1\)"):
        Workdir(tmp_path, config)
    monkeypatch.setitem(config_module.OLD_VALUES, "train.label_smoothing", 0.1)
    Workdir(tmp_path, config).close()


def test_no_folder_is_a_user_error(config):
    with pytest.raises(UserError, match="--workdir= is empty"):
        Workdir("", config)


def test_a_finished_run_on_a_read_only_disk_opens(tmp_path, config, monkeypatch):
    Workdir(tmp_path, config).close()

    def refused(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("builtins.open", refused)
    monkeypatch.setattr(workdir, "write_text_atomically", refused)
    opened = Workdir(tmp_path, config)
    opened.close()
    assert opened.read_only
    config.mesh.data = 2
    with pytest.raises(UserError, match="can't be written to"):
        Workdir(tmp_path, config)


COLLECTED = "histories/shard"
TRAINED = (COLLECTED, "checkpoints/20", "metrics.jsonl")
EVALUATED = (*TRAINED, "evaluation/rollouts.npz")


@pytest.mark.parametrize(
    "output, changes, refused",
    [
        ((), {"env.kwargs.size": 4, "tasks.seed": 1, "seed": 1, "train.steps": 30}, ""),
        ((COLLECTED,), {"train.steps": 30, "model.width": 32, "evaluation.episodes": 9}, ""),
        ((COLLECTED,), {"seed": 1, "train.steps": 30}, "seed was 0, is 1"),
        ((COLLECTED,), {"method": "ED"}, ""),
        (TRAINED, {"method": "ED"}, "method was AD, is ED"),
        (TRAINED, {"evaluation.mode": "exact", "mesh.data": 2}, ""),
        (TRAINED, {"evaluation.mode": "exact", "train.steps": 30}, "train.steps was 40, is 30"),
        (("metrics.jsonl",), {"optimizer.b1": 0.5}, "optimizer.b1 was 0.9, is 0.5"),
        (("checkpoints/20",), {"collect.updates": 80}, "collect.updates was 40, is 80"),
        (EVALUATED, {"evaluation.episodes": 9}, "evaluation.episodes was 4, is 9"),
        (EVALUATED, {"mesh.data": 2}, ""),
        (("report/summary.json",), {"evaluation.episodes": 9}, "evaluation.episodes was 4, is 9"),
    ],
)
def test_a_setting_is_free_until_something_was_made_with_it(
    tmp_path, config, output, changes, refused
):
    Workdir(tmp_path, config).close()
    leave(tmp_path, *output)
    before = json.loads((tmp_path / "config.json").read_text())
    config.update_from_flattened_dict(changes)
    if refused:
        with pytest.raises(UserError, match=re.escape(f"another config ({refused})")):
            Workdir(tmp_path, config)
        assert json.loads((tmp_path / "config.json").read_text()) == before
    else:
        Workdir(tmp_path, config).close()
        stored = json.loads((tmp_path / "config.json").read_text())
        assert stored != before and stored == json.loads(json.dumps(config.to_dict()))


def test_settings_of_other_sources_methods_and_cores_are_free(tmp_path, config):
    """Their defaults may change between versions while a run is half done."""
    Workdir(tmp_path, config).close()
    leave(tmp_path, *TRAINED)
    others = {"source.dqn.discount": 0.5, "rl2.clip": 0.5, "train.beam_size": 9, "model.hidden": 9}
    assert others.keys() <= flat(config.to_dict()).keys()
    config.update_from_flattened_dict(others)
    Workdir(tmp_path, config).close()
    for key in ("source.ppo.discount", "train.batch_size", "model.num_layers"):
        with pytest.raises(UserError, match=re.escape(f"another config ({key} was ")):
            Workdir(tmp_path, changed(config, key))


def test_the_way_out_names_what_to_remove(tmp_path, config):
    Workdir(tmp_path, config).close()
    leave(tmp_path, *EVALUATED, "report/summary.json")
    config.evaluation.episodes = 9
    way_out = f"or remove {tmp_path}/evaluation and {tmp_path}/report"
    with pytest.raises(UserError, match=f"{re.escape(way_out)}$"):
        Workdir(tmp_path, config)
    for name in ("evaluation", "report"):
        shutil.rmtree(tmp_path / name)
    Workdir(tmp_path, config).close()


@pytest.mark.parametrize("content", ['{"train": {"st', "[]", "\0", ""])
def test_a_damaged_config_is_a_user_error(tmp_path, config, content):
    Workdir(tmp_path, config).close()
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config.json is damaged .*: remove it"):
        Workdir(tmp_path, config)


@pytest.mark.parametrize(
    "place, reason",
    [
        ("file", "File exists"),
        ("file/run", "Not a directory"),
        ("/proc/x/run", "No such file"),
        ("n" * 300, "too long"),
    ],
)
def test_a_place_that_can_be_no_folder_is_a_user_error(tmp_path, config, place, reason):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=rf"--workdir=.*{reason}.*give another folder"):
        Workdir(tmp_path / place, config)


def test_a_folder_without_permission_is_a_user_error(tmp_path, config, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(pathlib.Path, "mkdir", denied)  # root may write everywhere
    with pytest.raises(UserError, match="Permission denied"):
        Workdir(tmp_path / "run", config)
