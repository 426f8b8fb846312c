import json
import subprocess
import sys

import pytest

from ad_jax.errors import UserError
from experiments.workdir import Workdir


def test_the_same_config_comes_back_and_another_one_is_refused_by_key(tmp_path, config):
    Workdir(tmp_path, config).close()
    Workdir(tmp_path, config).close()
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
        "import sys; from experiments.workdir import Workdir; "
        "from experiments.configs import dark_room; "
        f"w = Workdir({str(tmp_path)!r}, dark_room.get_config('smoke')); "
        "print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"in use by process {process.pid}"):
        Workdir(tmp_path, config)
    process.kill()
    process.wait()
    Workdir(tmp_path, config).close()


def test_a_file_is_no_workdir(tmp_path, config):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        Workdir(tmp_path / "file", config)
