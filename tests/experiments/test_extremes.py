"""Unusual environments run to their report, or are refused in one clear line."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces

from ad_jax.envs.tasks import TaskDistribution
from ad_jax.errors import UserError
from experiments.configs.common import choose
from experiments.configs.gymnax import PRESETS
from experiments.runtime.workdir import Workdir
from experiments.stages import collect, evaluate, report, train
from experiments.validation import validate


@struct.dataclass
class Params(environment.EnvParams):
    right: jax.Array = None
    max_steps_in_episode: jax.Array = None


@struct.dataclass
class State:
    time: jax.Array


class Extreme(environment.Environment):
    """Every action has a cost except one, which depends on the task; observations are noise."""

    num_actions = property(lambda self: self.actions)
    name = property(lambda self: "Extreme")

    def __init__(self, actions=3, steps=5, scale=1.0, cost=1.0):
        super().__init__()
        self.actions, self.steps, self.scale, self.cost = actions, steps, scale, cost

    @property
    def default_params(self):
        return Params(right=jnp.int32(0), max_steps_in_episode=jnp.int32(self.steps))

    def tasks(self):
        def params(ids):
            steps = jnp.full(len(ids), self.steps, jnp.int32)
            return Params(right=jnp.asarray(ids % self.actions, jnp.int32),
                          max_steps_in_episode=steps)  # fmt: skip

        return TaskDistribution(params=params, num_tasks=max(self.actions, 4))

    def reset_env(self, key, params):
        return self._noise(key), State(jnp.int32(0))

    def step_env(self, key, state, action, params):
        reward = jnp.where(action == params.right, 0.0, -self.cost)
        return self._noise(key), State(state.time + 1), reward, jnp.bool(False), {}

    def is_terminated(self, state, params):
        return jnp.bool(False)

    def action_space(self, params=None):
        return spaces.Discrete(self.actions)

    def observation_space(self, params=None):
        return spaces.Box(-jnp.inf, jnp.inf, (2,), jnp.float32)

    def _noise(self, key):
        return self.scale * jax.random.normal(key, (2,))


def extreme(**changes):
    smoke = {k: v for k, v in PRESETS["smoke"].items() if not k.startswith("env.")}
    smoke |= {"env.name": f"{__name__}:Extreme", "tasks.num_train": 2, "tasks.num_heldout": 2}
    smoke["tasks.num_validation"] = 0
    return choose("smoke", {"smoke": {**smoke, **changes}})


SCALED = {"source.ppo.normalize": True, "model.normalize": True}


@pytest.mark.parametrize(
    "changes",
    [
        {"env.kwargs.scale": 1e6, "env.kwargs.cost": 1000.0, **SCALED},
        {"env.kwargs.scale": 1e6, "env.kwargs.cost": 1000.0},
        {"env.kwargs.steps": 1},
        {"env.kwargs.steps": 2000, "source.ppo.rollout_steps": 200},
        {"env.kwargs.actions": 1},
        {"env.kwargs.actions": 200},
    ],
    ids=lambda changes: ", ".join(key.rsplit(".", 1)[-1] for key in changes),
)
def test_a_world_of_another_kind_runs_to_its_report(tmp_path, never, changes):
    config = extreme(**changes)
    validate(config)
    workdir = Workdir(tmp_path, config)
    for stage in (collect, train, evaluate, report):
        stage.run(config, workdir, never)
    summary = json.loads((workdir.report / "summary.json").read_text())
    assert np.isfinite(summary["heldout"]["return"]).all()
    assert (workdir.report / "learning_curve.png").exists()


def test_histories_without_a_whole_episode_are_refused(tmp_path, never):
    config = extreme(**{"env.kwargs.steps": 2000})
    with pytest.raises(UserError, match="hold no episode that all streams have finished: raise"):
        collect.run(config, Workdir(tmp_path, config), never)


def test_more_actions_than_can_be_stored_are_refused():
    with pytest.raises(UserError, match="at most 256 actions can be stored, not 300"):
        validate(extreme(**{"env.kwargs.actions": 300}))
