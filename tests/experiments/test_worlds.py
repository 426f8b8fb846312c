"""Every environment runs to its report, and every source that suits it can be distilled."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ad_jax import build
from ad_jax.envs import raycast
from ad_jax.errors import UserError
from ad_jax.methods.ad import distillation_loss
from ad_jax.methods.optimizer import OptimizerConfig, make_optimizer
from ad_jax.methods.train_state import init_state
from data_pipelines.reader import Histories
from experiments.configs import (
    adversarial_bandit,
    cart_pole,
    dark_key_to_door,
    dark_room,
    dark_room_hard,
    gymnax,
    linear_bandit,
    point_robot,
    random_mdp,
    watermaze,
    xland,
)
from experiments.runtime.workdir import Workdir
from experiments.stages import collect, evaluate, report, train

# Sources for each environment: the first one runs to the report, the others only collect.
SUITED = {
    adversarial_bandit: ("ucb", "thompson", "ppo"),
    cart_pole: ("ppo", "a2c", "dqn"),
    gymnax: ("ppo",),
    dark_room: ("a2c", "dqn", "noise"),
    dark_room_hard: ("ppo", "dqn", "noise"),
    dark_key_to_door: ("ppo", "a2c"),
    watermaze: ("ppo", "dqn", "noise", "search"),
    linear_bandit: ("ucb", "noise"),
    random_mdp: ("ppo", "rmax", "noise"),
    point_robot: ("ppo", "a2c", "noise"),
    xland: ("ppo",),
}
WHOLE = [(module, sources[0]) for module, sources in SUITED.items()]
COLLECTED = [(module, s) for module, sources in SUITED.items() for s in sources[1:]]
name = lambda value: getattr(value, "__name__", value).split(".")[-1]


def smoke(module, source):
    config = module.get_config("smoke")
    config.source.name = source
    config.collect.min_improved = 0.0  # a few updates teach little
    if module is not dark_room_hard:
        config.collect.update({"updates": 20, "updates_per_chunk": 10})
    if module in (adversarial_bandit, linear_bandit):
        config.collect.update({"updates": 1, "updates_per_chunk": 1})
    config.train.update({"steps": 4, "log_every": 2, "checkpoint_every": 4, "batch_size": 4})
    config.optimizer.warmup_steps = 1
    config.evaluation.update({"episodes": min(2, config.evaluation.episodes), "train_tasks": 2})
    return config


def test_continuous_actions_are_stored_as_their_places(tmp_path, never):
    """Oracle: a step of the environment from a stored position leads to the next stored one."""
    config = smoke(point_robot, "ppo")
    workdir = Workdir(tmp_path / "run", config)
    collect.run(config, workdir, never)
    histories, env = Histories(workdir.histories), build.world(config).env
    found = histories.read(np.zeros(8, int), np.arange(8))
    assert found["action"].shape == (8, 2) and len(np.unique(found["action"])) > 2
    way = np.diff(histories.schema.decode_observation(found["observation"]), axis=0)
    np.testing.assert_allclose(way, 0.1 * env.continuous(found["action"][:-1]), atol=1e-6)


@pytest.mark.parametrize("module, source", WHOLE, ids=name)
def test_an_environment_runs_to_its_report(module, source, tmp_path, never):
    config = smoke(module, source)
    workdir = Workdir(tmp_path, config)
    for stage in (collect, train, evaluate, report):
        stage.run(config, workdir, never)
        assert stage.done(config, workdir)
    summary = json.loads((workdir.report / "summary.json").read_text())
    assert summary["source"]["name"] == source
    for group in summary["groups"]:
        assert np.isfinite(summary[group]["normalized"]).all()
        lowest = -1 if module is linear_bandit else 0  # whose rewards are negative, too
        assert lowest <= summary[group]["random_normalized"] < 1
    for path in workdir.report.glob("*.*"):
        if path.suffix in (".png", ".gif"):
            assert np.asarray(Image.open(path).convert("L")).std() > 5, path
    if module is adversarial_bandit:
        assert summary["groups"] == ["heldout", "train", "even", "uniform"]
        assert np.isfinite([summary[g]["score"] for g in summary["groups"]]).all()
    if module is watermaze:
        histories = Histories(workdir.histories)
        block = histories.read(0, np.arange(24))
        flags = 4 / 8  # of a byte: the reward and three flags
        assert (block["observation"].nbytes + block["action"].nbytes) / 24 + flags <= 8


@pytest.mark.parametrize("module, source", COLLECTED, ids=name)
def test_a_source_that_suits_can_be_distilled(module, source, tmp_path, never):
    config = smoke(module, source)
    workdir = Workdir(tmp_path, config)
    collect.run(config, workdir, never)
    histories = Histories(workdir.histories)
    assert histories.provenance["config"]["source"]["name"] == source
    assert set(histories.task.tolist()) == set(build.world(config).train.tolist())


UNSUITED = [
    (dark_room, "ucb", "can't be used in DarkRoom"),
    (cart_pole, "noise", "no optimal policy is known"),
]


@pytest.mark.parametrize("module, source, message", UNSUITED, ids=name)
def test_a_source_that_does_not_suit_is_refused(module, source, message):
    config = smoke(module, source)
    with pytest.raises(UserError, match=message):
        build.source(config, build.world(config).env)


def test_a_watermaze_source_must_see_frames_or_be_privileged():
    """A2C, with an MLP over poses, is refused. (DQN draws the frames.)"""
    config = smoke(watermaze, "a2c")
    with pytest.raises(UserError, match="privileged=True"):
        build.source(config, build.world(config).env)


def test_what_pictures_show_counts_in_the_loss_where_it_is_known():
    config = smoke(watermaze, "ppo")
    env = build.world(config).env
    batch = {
        "observation": jnp.array([[[0, 0, 0]], [[4000, -3000, 20000]]]),
        "previous_action": jnp.zeros((2, 1), jnp.int32), "previous_reward": jnp.zeros((2, 1)),
        "is_first": jnp.zeros((2, 1), bool), "action": jnp.zeros((2, 1), jnp.int32),
    }  # fmt: skip
    losses = {}
    for cost in (1.0, 3.0):
        config.model.shown_cost = cost
        model = build.model(config, env)
        state = init_state(
            jax.random.key(0), model, make_optimizer(OptimizerConfig(warmup_steps=1), 10), batch
        )
        losses[cost], metrics = distillation_loss(model, state.params, batch, jax.random.key(1))
    assert metrics["shown_error"] > 0
    difference = losses[3.0] - losses[1.0]
    np.testing.assert_allclose(difference, 2 * metrics["shown_error"], rtol=1e-4)
    np.testing.assert_allclose(losses[1.0] - metrics["shown_error"], metrics["loss"], rtol=1e-4)
    room = smoke(dark_room, "ppo")
    room.model.shown_cost = 1.0
    with pytest.raises(UserError, match=r"model.shown_cost=1.0: DarkRoom does not say"):
        build.model(room, build.world(room).env)


def test_worlds_that_are_not_complete():
    config = smoke(cart_pole, "ppo")
    config.env.tasks = None  # then its tasks are those of any gymnax environment
    assert build.world(config).tasks.num_tasks == 32
    config.env.tasks = "experiments.configs.cart_pole:task"
    with pytest.raises(UserError, match="'module:name'"):
        build.world(config)
    config = smoke(watermaze, "ppo")
    config.env.kwargs = {"goal_mode": "twice"}
    with pytest.raises(UserError, match="goal_mode must be one of"):
        build.world(config)


def test_histories_of_another_renderer_are_refused(tmp_path, never, monkeypatch):
    config = smoke(watermaze, "ppo")
    workdir = Workdir(tmp_path, config)
    collect.run(config, workdir, never)
    monkeypatch.setattr(type(build.world(config).env), "render_version", "0.9.0")
    with pytest.raises(UserError, match=r"histories are from Watermaze .*, but this program has"):
        train.run(config, workdir, never)


def test_the_distilled_model_sees_frames_and_nothing_else(monkeypatch):
    """With blank frames, poses make no difference; with frames of the room, they do."""
    config = smoke(watermaze, "ppo")
    env = build.world(config).env

    poses = jnp.array([[[0, 0, 0]], [[4000, -3000, 20000]]])
    steps = poses, jnp.zeros((2, 1), jnp.int32), jnp.zeros((2, 1)), jnp.zeros((2, 1), bool)

    def logits(picture):
        monkeypatch.setattr(type(env), "render_observation", lambda self, pose: picture(pose))
        model = build.model(config, env)
        return np.asarray(model.apply(model.init(jax.random.key(0), *steps), *steps))

    here, there = logits(lambda pose: jnp.zeros((*pose.shape[:-1], 72, 96, 3), jnp.uint8))
    np.testing.assert_array_equal(here, there)
    here, there = logits(raycast.render)
    assert np.abs(here - there).max() > 1e-4
