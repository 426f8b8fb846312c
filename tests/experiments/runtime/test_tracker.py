"""Trackers get every row once, and training neither waits for them nor fails with them."""

import contextlib
import json
import os
import struct
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from ad_jax.errors import UserError
from experiments import validation
from experiments.runtime import tracker
from experiments.runtime.metrics import Metrics, write_returns
from tests.experiments.conftest import ROOT

# The parts of trackio that are used. The real one needs an older Pillow than ours.
FAKE = """
import json, os, time

def init(project, name=None, group=None, config=None, resume="never"):
    {at_init}
    return Run(dict(project=project, name=name, group=group, config=config, resume=resume))

class Run:
    def __init__(self, about):
        self._file = open(os.environ["FAKE_TRACKIO"], "a")
        self._write(about)

    def _write(self, value):
        self._file.write(json.dumps(value) + "\\n")
        self._file.flush()

    def log(self, metrics, step=None):
        {at_log}
        self._write([step, metrics])

    def finish(self):
        {at_finish}
        self._write("finished")
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """``fake(at_log=…)`` installs a trackio; returns a function that reads what it was sent."""

    def make(**lines):
        folder, told = tmp_path / "packages", tmp_path / "told"
        folder.mkdir(exist_ok=True)
        code = FAKE.format(**{"at_init": "pass", "at_log": "pass", "at_finish": "pass", **lines})
        (folder / "trackio.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.setenv("FAKE_TRACKIO", str(told))
        return lambda: [json.loads(line) for line in told.read_text().splitlines()]

    return make


@pytest.fixture
def write(config, tmp_path):
    """Writes rows of steps after ``first`` as training does: the loss of a step is its number."""

    def call(first, *steps, seeds=(0,), name="trackio"):
        config.tracker = name
        (tmp_path / "run").mkdir(exist_ok=True)
        workdir = SimpleNamespace(path=tmp_path / "run")
        with contextlib.closing(Metrics(config, workdir, list(seeds), first)) as log:
            for step in steps:
                log.write(step, {"loss": step + np.array(seeds)}, {"learning_rate": 0.5})

    return call


def steps_of(told):
    return [line[0] for line in told if isinstance(line, list)]


def test_a_run_goes_on_where_it_was_and_no_step_comes_twice(write, fake, config):
    told = fake()
    write(0, 10, 20, 30)
    write(20, 30, 40)
    first, *rows, end = told()
    again = rows.index("finished")
    assert first["project"] == "ad_jax" and first["group"] == "run" and first["resume"] == "allow"
    assert first["config"]["train"]["steps"] == config.train.steps
    assert rows[again + 1] == first and end == "finished"
    sent = [[s, {"train/loss": s, "train/learning_rate": 0.5}] for s in (10, 20, 30, 40)]
    assert rows[:again] == sent[:3] and rows[again + 2 :] == sent[3:]


def test_what_a_tracker_missed_it_gets_later(write, fake):
    """One that was enabled late, or had failed, has the whole curve in the end."""
    write(0, 10, 20, name="")
    told = fake(at_log="if step > 10: raise OSError('no route')")
    write(20, 30)
    assert steps_of(told()) == [10]
    told = fake()
    write(30, 40)
    assert steps_of(told()) == [10, 20, 30, 40]
    assert len({line["name"] for line in told() if isinstance(line, dict)}) == 1


def test_training_from_scratch_is_another_run(write, fake):
    told = fake()
    write(0, 10)
    write(0, 10)
    assert steps_of(told()) == [10, 10]
    assert len({line["name"] for line in told() if isinstance(line, dict)}) == 2


def test_seeds_have_their_values_and_a_mean(write, fake):
    told = fake()
    write(0, 10, 20, seeds=(0, 1, 5))
    rates = {f"{name}/learning_rate": 0.5 for name in ("train", "seed_0", "seed_1", "seed_5")}
    of_10 = {"train/loss": 12, "seed_0/loss": 10, "seed_1/loss": 11, "seed_5/loss": 15}
    assert told()[1] == [10, of_10 | rates] and steps_of(told()) == [10, 20]


def test_returns_are_a_run_of_their_own(write, fake, config, tmp_path):
    told = fake()
    write(0, 10)
    workdir = SimpleNamespace(path=tmp_path / "run")
    returns = {"heldout": np.array([0.5, 2.0]), "train": np.array([1.0, 3.0])}
    write_returns(config, workdir, returns)
    about, *rows, _ = told()[3:]
    assert about["group"] == "run" and about["name"] != told()[0]["name"]
    assert rows == [
        [1, {"in_context/heldout_return": 0.5, "in_context/train_return": 1.0}],
        [2, {"in_context/heldout_return": 2.0, "in_context/train_return": 3.0}],
    ]


@pytest.mark.parametrize(
    "fault, said",
    [
        ({"at_init": "raise ValueError('not logged\\nin')"}, "failed (ValueError: not logged in)"),
        ({"at_log": "raise OSError(28, 'No space left on device')"}, "No space left on device"),
        ({"at_finish": "raise TimeoutError"}, "failed (TimeoutError:)"),
        ({"at_log": "os._exit(7)"}, "ended with status 7"),
        ({"at_init": "time.sleep(60)"}, "did not finish within 1 s, and was stopped"),
        ({"at_finish": "time.sleep(60)"}, "did not finish within 1 s, and was stopped"),
    ],
)
def test_whatever_goes_wrong_is_one_line(write, fake, monkeypatch, capfd, tmp_path, fault, said):
    fake(**fault)
    if "time.sleep" in str(fault):
        monkeypatch.setattr(tracker, "FINISH_SECONDS", 1)
    began = time.monotonic()
    write(0, 10, 20)
    assert time.monotonic() - began < 15
    warnings = [line for line in capfd.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1 and warnings[0].startswith("warning: trackio") and said in warnings[0]
    assert (tmp_path / "run/metrics.jsonl").read_text().count("\n") == 2


def test_one_that_can_not_be_started_is_one_line(write, fake, monkeypatch, capfd):
    fake()
    monkeypatch.setattr(tracker.sys, "executable", "/nowhere/python")
    write(0, 10)
    assert capfd.readouterr().err.count("warning: trackio can't be started") == 1


def test_what_is_not_there_is_refused_before_anything_starts(config, monkeypatch):
    config.tracker = "mlflow"
    with pytest.raises(UserError, match=r"tracker='mlflow': choose one of \['trackio', 'wandb'\]"):
        validation.validate(config)
    config.tracker = "trackio"
    find = validation.importlib.util.find_spec
    for spec in (None, SimpleNamespace(origin=None)):  # nothing, or a folder that is not a package
        monkeypatch.setattr(validation.importlib.util, "find_spec", lambda name, s=spec: s)
        with pytest.raises(UserError, match=r"is not installed: pip install '.\[trackio\]'"):
            validation.validate(config)
    monkeypatch.setattr(validation.importlib.util, "find_spec", find)
    config.tracker = "wandb"
    validation.validate(config)


def records(path):
    """The records of a .wandb file: a log in LevelDB's format, after seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at = path.read_bytes(), 7
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        assert kind == 1, "a record in several parts"
        yield Record.FromString(content[at + 7 : at + 7 + length])
        at += 7 + length


def test_the_real_wandb_offline(write, monkeypatch, capfd, tmp_path):
    for name, value in {"MODE": "offline", "DIR": tmp_path, "ERROR_REPORTING": "false"}.items():
        monkeypatch.setenv(f"WANDB_{name}", str(value))
    write(0, 10, 20, 30, name="wandb")
    write(20, 30, 40, name="wandb")
    files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    rows, runs = [], []
    for record in (record for file in files for record in records(file)):
        if record.HasField("run"):
            runs.append((record.run.project, record.run.display_name, record.run.run_group))
        if record.HasField("history"):
            row = {".".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
            rows.append((record.history.step.num, float(row["train/loss"])))
    assert runs == [("ad_jax", "run", "run")] * 2 and len({f.name for f in files}) == 1
    assert rows == [(s, s) for s in (10, 20, 30, 40)]
    said = capfd.readouterr().err.split("\n")
    assert [s for s in said if s] == [f"wandb: wandb sync {file.parent}" for file in files]


def test_a_tracker_that_hangs_ends_after_the_run_that_was_killed(tmp_path):
    """The system closes its stdin; nothing else would end it."""
    (tmp_path / "wandb.py").write_text(
        "import time\nSettings = dict\ninit = lambda **_: time.sleep(600)\n"
    )
    program = (
        "from experiments.runtime import tracker; tracker.FINISH_SECONDS = -4.5; tracker.main()"
    )
    run = {"tracker": "wandb", "id": "a", "name": "n", "group": "g", "config": {}, "rows": []}
    ended = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(run) + "\n", text=True, timeout=60,
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert ended.returncode == 1
