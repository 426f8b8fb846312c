"""Histories without an environment: a model is trained on them, and its predictions tested."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from ad_jax import build, config
from ad_jax.errors import UserError
from ad_jax.learner import load
from data_pipelines import convert
from data_pipelines.formats import Part
from experiments import pipeline, validation
from experiments.runtime.interruption import Interruption
from experiments.runtime.workdir import Workdir
from experiments.stages import evaluate
from tests.experiments.conftest import finish, start
from tests.experiments.page.browser import browser, needs_browser


def given(tasks=6, streams=2, steps=120):
    """In each task one action pays, and a learner takes it more and more often."""
    rng = np.random.default_rng(0)
    for task in range(tasks):
        for stream in range(streams):
            knows = rng.random(steps) < np.linspace(0, 1, steps)
            action = np.where(knows, task % 3, rng.integers(3, size=steps))
            arrays = {
                "observations": np.zeros(steps, int), "actions": action,
                "rewards": (action == task % 3) * 1.0,
                "terminations": np.arange(steps) % 4 == 3, "task": task, "stream": stream,
            }  # fmt: skip
            yield Part(f"{task}, {stream}", {k: np.asarray(v) for k, v in arrays.items()})


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A workdir with these histories."""
    folder = tmp_path_factory.mktemp("recorded")
    recording = convert.record(given())
    made = convert.config_of(recording)
    convert.store(recording, folder / "histories", made)
    made.model.update(
        {"width": 16, "num_layers": 1, "num_heads": 1, "mlp_width": 32, "context": 40}
    )
    made.train.update({"steps": 150, "batch_size": 32, "log_every": 50, "checkpoint_every": 150})
    made.optimizer.update({"learning_rate": 1e-2, "warmup_steps": 5})
    (folder / "config.json").write_text(json.dumps(made.to_dict()))
    return folder


@pytest.fixture(scope="module")
def run(workdir):
    """The output of the command that does the whole run."""
    status, output = finish(start(workdir, config=f"{workdir}/config.json", preset=None))
    assert status == 0, output
    return output


def test_the_predictions_improve_along_the_context(run, workdir):
    summary = json.loads((workdir / "report" / "summary.json").read_text())
    assert summary["groups"] == ["heldout", "train"] and summary["heldout"]["tasks"] == 1
    for group in summary["groups"]:
        loss = np.array(summary[group]["loss"])
        assert loss.shape == (40,)
        assert loss[20:].mean() < loss[:10].mean() - 0.1
        assert summary[group]["late_loss"] < summary[group]["baseline_loss"]
        assert summary[group]["late_agreement"] > 0.42  # 0.33 by chance
    assert "loss of frequencies" in run
    picture = np.asarray(Image.open(workdir / "report" / "predictions.png").convert("L"))
    assert picture.std() > 5


@needs_browser
def test_a_browser_shows_the_predictions(run, workdir):
    with browser() as driver:
        driver.get((workdir / "report" / "index.html").as_uri())
        assert not driver.find_element("id", "stage").is_displayed()
        for curve in ("loss", "agreement"):
            drawn = driver.find_elements("css selector", f"#{curve} polyline")
            assert len(drawn) >= 2, curve
        assert "loss in the later half" in driver.find_element("id", "facts").text


def test_the_losses_are_the_models(run, workdir):
    """Oracle: the learner steps through a window itself, and its logits give the same losses."""
    results = evaluate.load_results(workdir / "evaluation")
    learner = load(workdir)
    from data_pipelines.reader import Histories
    from experiments.stages.predictions import _windows

    histories = Histories(workdir / "histories")
    raw = _windows(learner.config, histories, int(results["task"][0]))
    carry, losses = learner.model.initial_carry(), []
    step = jax.jit(lambda carry, *seen: learner.model.apply(
        learner.params, carry, *seen, method="step"
    ))  # fmt: skip
    for t in range(1, 41):
        known = t > 1 or raw["has_previous"][0]
        previous = int(raw["action"][0, t - 1]) if known else 3
        reward = [0.0, 1.0][raw["reward"][0, t - 1]] if known else 0.0
        carry, logits = step(
            carry, np.int32(0), np.int32(previous), np.float32(reward), raw["is_first"][0, t]
        )
        losses.append(-jax.nn.log_softmax(logits)[int(raw["action"][0, t])])
    np.testing.assert_allclose(results["loss"][0, 0, 0], losses, atol=1e-4)


def test_all_stages_are_done_then(run, workdir):
    status, output = finish(start(workdir, config=f"{workdir}/config.json", preset=None))
    assert status == 0 and output.count("already done, skipped") == 4


def test_actions_of_two_parts_are_predicted_part_by_part(tmp_path, never):
    """The losses of the parts add up, and an action is right if both parts are."""
    rows = list(given(tasks=5, streams=1))
    for part in rows:
        action = part.arrays["actions"]
        part.arrays["actions"] = np.stack([action, np.arange(len(action)) % 2], 1)
    recording = convert.record(rows)
    made = convert.config_of(recording)
    made.update_from_flattened_dict(
        {"train.steps": 30, "train.batch_size": 16, "train.log_every": 10, "model.width": 16,
         "model.num_layers": 1, "model.num_heads": 1, "model.mlp_width": 16, "model.context": 20,
         "train.checkpoint_every": 30, "optimizer.learning_rate": 1e-2,
         "optimizer.warmup_steps": 5}
    )  # fmt: skip
    convert.store(recording, tmp_path / "histories", made)
    folder = Workdir(tmp_path, made)
    pipeline.run_stages(made, folder, ["train", "evaluate", "report"], never)
    results = evaluate.load_results(tmp_path / "evaluation")
    often = [np.concatenate([s.history.action[:, i] for s in recording.streams]) for i in (0, 1)]
    entropy = [-sum(p * np.log(p) for p in np.bincount(x) / len(x)) for x in often]
    assert results["baseline"].mean() == pytest.approx(sum(entropy), abs=0.1)
    assert results["loss"].mean() < results["baseline"].mean() - 0.1  # the second part alternates
    assert 0 < results["agreement"].mean() < 1 and results["agreement"].ndim == 4
    folder.close()


def test_what_needs_an_environment_is_refused(workdir, run):
    read = config.stored(json.loads((workdir / "config.json").read_text()))
    validation.validate(read)
    read.train.evaluate_every = 50
    with pytest.raises(UserError, match="no environment to act in: give 0"):
        validation.validate(read)
    read.train.evaluate_every = 0
    read.method = "RL2"
    with pytest.raises(UserError, match="acts in its tasks"):
        validation.validate(read)
    assert not build.acts(build.world(read).env)
    with pytest.raises(UserError, match="no environment to act in"):
        load(workdir).evaluate()


def test_more_streams_than_there_are_is_refused(workdir, tmp_path):
    read = config.stored(json.loads((workdir / "config.json").read_text()))
    read.train.keep_streams = 3
    opened = Workdir(tmp_path, read, histories=workdir / "histories")
    with pytest.raises(UserError, match=r"train.keep_streams=3: .* has 2 per task"):
        pipeline.run_stages(read, opened, ["train"], Interruption())
