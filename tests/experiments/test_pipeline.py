"""Which stages count as done, for which inputs."""

import contextlib
import json
import shutil

import numpy as np
import pytest

from ad_jax.errors import UserError
from data_pipelines.writer import PROVENANCE
from experiments import pipeline
from experiments.runtime.workdir import Workdir


@pytest.fixture
def copy(smoke_run, tmp_path):
    """A finished run that may be changed."""
    shutil.copytree(smoke_run[0], tmp_path / "run")
    return tmp_path / "run"


def what_is_done(workdir, config):
    folders = Workdir(workdir, config)
    folders.close()
    return [name for name in pipeline.STAGES if pipeline.is_done(name, config, folders)]


def test_a_finished_run_is_done(copy, config):
    assert what_is_done(copy, config) == list(pipeline.STAGES)
    assert set(json.loads((copy / pipeline.MADE_FROM).read_text())) == set(pipeline.STAGES)


def test_an_older_workdir_counts_as_far_as_its_inputs_are_there(copy, config):
    (copy / pipeline.MADE_FROM).unlink()
    assert what_is_done(copy, config) == list(pipeline.STAGES)
    shutil.rmtree(copy / "checkpoints")
    assert what_is_done(copy, config) == ["collect", "report"]


def test_without_its_model_an_evaluation_is_not_done(copy, config, never, capsys):
    """The model has to be trained again first; the histories are kept."""
    shutil.rmtree(copy / "checkpoints")
    assert what_is_done(copy, config) == ["collect", "report"]
    workdir = Workdir(copy, config)
    with pytest.raises(UserError, match="train"):
        pipeline.run_stages(config, workdir, ["evaluate"], never)
    pipeline.run_stages(config, workdir, pipeline.STAGES, never)
    workdir.close()
    printed = capsys.readouterr().out
    assert "collect: already done" in printed and "train: already done" not in printed


@pytest.mark.parametrize("known", [True, False])
def test_an_evaluation_of_another_model_is_not_done(copy, config, known):
    """An older workdir does not record what it evaluated. After new training it evaluates again."""
    workdir = Workdir(copy, config)
    if not known:
        (copy / pipeline.MADE_FROM).unlink()
        shutil.rmtree(copy / "checkpoints" / "40")
        pipeline._begin("train", config, workdir)
        assert json.loads((copy / pipeline.MADE_FROM).read_text())["evaluate"] is None
    else:
        path = copy / "checkpoints" / "40" / "metadata" / "metadata"
        stated = json.loads(path.read_text())
        (key,) = set(pipeline.checkpoint.newest(copy / "checkpoints")) - {"step"}
        path.write_text(json.dumps({**stated, key: stated[key] + 1}))
    workdir.close()
    assert "evaluate" not in what_is_done(copy, config)


def test_a_report_of_another_evaluation_is_not_done(copy, config):
    path = copy / "evaluation" / "rollouts.npz"
    results = dict(np.load(path))
    np.savez(path, **{**results, "returns": results["returns"] + 1})
    assert what_is_done(copy, config) == ["collect", "train", "evaluate"]


def test_a_model_of_other_histories_is_not_trained_on(copy, config, never):
    path = copy / "histories" / PROVENANCE
    stated = json.loads(path.read_text())
    stated.pop("checksum")
    stated["shards"] = {"another": stated["shards"]}
    path.write_text(json.dumps(stated))
    assert "train" not in what_is_done(copy, config)
    workdir = Workdir(copy, config)
    with pytest.raises(UserError, match=r"was trained on other histories.*remove .*checkpoints"):
        pipeline.run_stages(config, workdir, ["train"], never)
    workdir.close()


def test_what_is_killed_while_it_is_made_again_does_not_count(copy, config):
    """Results of the previous model are removed first, and inputs are recorded at the start."""
    path = copy / "checkpoints" / "40" / "metadata" / "metadata"
    stated = json.loads(path.read_text())
    path.write_text(json.dumps({**stated, "params_checksum": stated["params_checksum"] + 1}))
    workdir = Workdir(copy, config)
    pipeline._begin("evaluate", config, workdir)
    workdir.close()  # and the process was killed
    assert "evaluate" not in what_is_done(copy, config)
    (copy / pipeline.MADE_FROM).unlink()
    pipeline._begin("train", config, workdir)
    assert json.loads((copy / pipeline.MADE_FROM).read_text())["train"] is not None


def test_a_profile_is_a_trace_of_a_few_steps(copy, config, never, tmp_path):
    shutil.rmtree(copy / "checkpoints")
    profile = str(tmp_path / "profile")
    with contextlib.closing(Workdir(copy, config, profile=profile)) as workdir:
        pipeline.run_stages(config, workdir, ["train"], never)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
