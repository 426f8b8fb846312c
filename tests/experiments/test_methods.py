"""Alternatives to algorithm distillation: RL², experts, other cores, prompts."""

import json
import shutil

import numpy as np
import pytest

from ad_jax import build
from ad_jax.errors import UserError
from ad_jax.evaluation import bounds
from experiments import validation
from experiments.configs import adversarial_bandit
from experiments.runtime.workdir import Workdir
from experiments.stages import collect, evaluate, report, train


def finish(config, workdir, never):
    """The stages after "collect", and the summary."""
    for stage in (train, evaluate, report):
        stage.run(config, workdir, never)
    return json.loads((workdir.report / report.SUMMARY).read_text())


def test_rl2_needs_no_histories_and_is_judged_like_the_others(config, tmp_path, never):
    config.method, config.model.core = "RL2", "lstm"
    config.rl2.update(num_trials=8, episodes=2, num_minibatches=2)
    config.model.hidden, config.train.steps = 16, 10
    workdir = Workdir(tmp_path / "run", config)
    assert collect.done(config, workdir)
    summary = finish(config, workdir, never)
    assert summary["method"] == "RL2" and "source" not in summary
    assert len(summary["heldout"]["normalized"]) == config.evaluation.episodes
    steps = [json.loads(line) for line in (workdir.path / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1]["step"] == 10 and np.isfinite(steps[-1]["trial_reward"])


def test_ed_on_bandits_with_one_arm_that_pays(tmp_path, never):
    """Experts pull the arm that pays, mostly arm 1. ED pulls it as often, whatever it earns."""
    config = adversarial_bandit.get_config("smoke")
    config.env.kwargs.num_arms = 2
    config.method, config.source.name, config.collect.min_improved = "ED", "noise", 0.0
    config.source.noise.update(num_streams=2, rollout_steps=16, epsilon_start=0.0)
    config.train.update(steps=100, batch_size=16, log_every=50, checkpoint_every=100)
    config.tasks.update(num_train=60, num_heldout=20, num_validation=0)
    config.evaluation.rollouts = 16
    workdir = Workdir(tmp_path / "run", config)
    collect.run(config, workdir, never)
    summary = finish(config, workdir, never)
    world = build.world(config)
    share = np.asarray(world.tasks.params(world.train).probability.argmax(-1) == 0).mean()
    for group, tasks in (("heldout", world.tasks), ("even", world.tasks.shifted["even"])):
        first, second = 16 * np.asarray(tasks.params(world.heldout).probability).mean(0)
        expected = share * first + (1 - share) * second
        assert abs(summary[group]["return"][0] - expected) < 1.0


@pytest.mark.parametrize("core", ["lstm", "gru", "rglru"])
def test_a_recurrent_core_is_distilled_into_like_a_transformer(
    core, config, smoke_run, tmp_path, never
):
    config.model.core, config.model.hidden = core, 16
    workdir = Workdir(tmp_path / "run", config)
    shutil.copytree(smoke_run[0] / "histories", workdir.histories)
    summary = finish(config, workdir, never)
    losses = [json.loads(x)["loss"] for x in (workdir.path / "metrics.jsonl").open()]
    assert losses[-1] < losses[0] and "source" in summary


def test_prompts_come_first_and_are_not_counted(config, smoke_run, tmp_path, never):
    shutil.copytree(smoke_run[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "evaluation")
    shutil.rmtree(tmp_path / "run" / "report")
    config.evaluation.update(prompt_episodes=2, prompt_quality=1.0)
    workdir = Workdir(tmp_path / "run", config)
    evaluate.run(config, workdir, never)
    report.run(config, workdir, never)
    results = evaluate.load_results(workdir.evaluation)
    world = build.world(config)
    tasks = evaluate.evaluation_tasks(world, evaluate.HELDOUT, config.evaluation.train_tasks)
    optimal = bounds.optimal_returns(world.env, tasks.params)
    shape = (1, len(tasks.ids), config.evaluation.rollouts)
    assert results["returns"].shape == (*shape, config.evaluation.episodes)
    assert results["prompt_returns"].shape == (*shape, 2)
    want = np.tile(optimal[:, None, None], (2, 2))
    np.testing.assert_allclose(results["prompt_returns"][0], want)
    first = results["reward"][:, : config.env.kwargs.max_steps_in_episode].sum(-1)
    np.testing.assert_allclose(first, results["returns"][0, :, 0, 0])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"method": "AC"}, "method='AC': choose one of"),
        ({"method": "ED"}, "train.keep_begin=0"),
        ({"model.core": "rnn"}, "model.core='rnn': choose one of"),
    ],
)
def test_methods_that_do_not_exist(config, changes, message):
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=message):
        validation.validate(config)


def test_a_trial_longer_than_the_context(config):
    config.method, config.rl2.episodes = "RL2", 3
    with pytest.raises(
        UserError, match=r"model\.context=16 is shorter than an RL2 trial of 24 steps"
    ):
        validation.validate(config)
