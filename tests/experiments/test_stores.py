"""A whole run in a bucket (a stand-in for one is in tests/store.py)."""

import contextlib
import json
import shutil

import pytest

from ad_jax.errors import UserError
from experiments import pipeline, run
from experiments.configs import dark_room
from experiments.runtime.interruption import Interrupted, Interruption
from experiments.runtime.workdir import InUse, Workdir
from experiments.stages import train


@pytest.fixture(scope="module", autouse=True)
def no_signals():
    """Runs in this process do not install signal handlers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Interruption, "install", lambda self: None)
        yield


@pytest.fixture(scope="module")
def finished(bucket):
    """The folder of a finished run in the bucket."""
    path, folder = bucket
    run.run(dark_room.get_config("smoke"), f"{path}/finished", pipeline.STAGES, Interruption())
    return folder / "finished"


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_in_a_bucket_is_whole_and_is_skipped_the_next_time(finished, bucket, config, capsys):
    files = {p.relative_to(finished).as_posix() for p in finished.rglob("*") if p.is_file()}
    assert files > {
        "config.json", "metrics.jsonl", "histories/provenance.json", "evaluation/rollouts.npz",
        "report/learning_curve.png", "report/goals.png", "report/rollout.gif",
        "report/summary.json",
    }  # fmt: skip
    assert not [name for name in files if name.endswith(".tmp")]
    assert [m["step"] for m in metrics(finished)] == [10, 20, 30, 40]
    assert all(p.stat().st_size for p in (finished / "tensorboard").iterdir())

    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*.*")}
    run.run(config, f"{bucket[0]}/finished", pipeline.STAGES, Interruption())
    assert capsys.readouterr().out.count("already done, skipped") == len(pipeline.STAGES)
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*.*")} == before


class Stop:
    """An interruption that comes at a given step."""

    def __init__(self, steps):
        self._steps = steps

    @property
    def requested(self):
        self._steps -= 1
        return self._steps == 0


def test_training_in_a_bucket_goes_on_where_it_was_stopped(finished, bucket, config, never):
    path, folder = bucket
    shutil.copytree(finished / "histories", folder / "stopped" / "histories")
    workdir = Workdir(f"{path}/stopped", config)
    with pytest.raises(Interrupted):
        train.run(config, workdir, Stop(30))
    assert [m["step"] for m in metrics(folder / "stopped")] == [10, 20, 30]
    # As a killed process leaves it: with metrics of a step after the last checkpoint.
    lines = (folder / "stopped" / "metrics.jsonl").read_text()
    (folder / "stopped" / "metrics.jsonl").write_text(lines + '{"step": 35}\n')
    train.run(config, workdir, never)
    loss = lambda folder: [(m["step"], m["loss"]) for m in metrics(folder)]
    assert loss(folder / "stopped") == loss(finished)


def test_another_config_is_refused_in_a_bucket(finished, bucket, config):
    config.train.steps = 41
    with pytest.raises(UserError, match=r"train.steps was 40, is 41.*remove gs://bucket/finished"):
        Workdir(f"{bucket[0]}/finished", config)


def test_a_store_that_refuses_is_a_user_error(bucket, config, monkeypatch):
    from tests.store import Bucket

    def forbidden(*_, **__):
        raise RuntimeError("Forbidden:\n  you may not")

    monkeypatch.setattr(Bucket, "_open", forbidden)
    with pytest.raises(UserError, match=r"^--workdir=gs://bucket/x can't be used \(RuntimeError: "):
        Workdir(f"{bucket[0]}/x", config)


def test_a_second_run_in_the_same_folder_of_a_store_is_refused(bucket, config):
    first = Workdir(f"{bucket[0]}/run", config)
    with contextlib.closing(first), pytest.raises(InUse, match=r"in use by process \d+ on "):
        Workdir(f"{bucket[0]}/run", config)
    Workdir(f"{bucket[0]}/run", config).close()
