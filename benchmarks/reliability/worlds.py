"""Environments as a user might write them, each with one fault, and a preset for each."""

import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces

from ad_jax.envs.dark_room import DarkRoom
from ad_jax.envs.tasks import TaskDistribution
from experiments.configs import dark_room


class World(DarkRoom):
    """A small room; each subclass has one fault."""

    def __init__(self):
        super().__init__(3, 8)


def _reward(value: float, levels: tuple[float, ...] | None = None) -> type:
    class Faulty(World):
        reward_levels = levels

        def collect(self, position, stage, params):
            reward, stage = super().collect(position, stage, params)
            return jnp.where(reward > 0, value, 0.0), stage

    return Faulty


def _observation(space: spaces.Space, shown=lambda position: position) -> type:
    class Faulty(World):
        def observation_space(self, params=None):
            return space

        def observe(self, key, state, action, params):
            return shown(state.position)

        def step_env(self, key, state, action, params):
            _, state, *rest = super().step_env(key, state, action, params)
            return shown(state.position), state, *rest

        def reset_env(self, key, params):
            _, state = super().reset_env(key, params)
            return shown(state.position), state

    return Faulty


def _actions(space: spaces.Space, number: int) -> type:
    class Faulty(World):
        num_actions = number

        def action_space(self, params=None):
            return space

    return Faulty


def _tasks(tasks) -> type:
    return type("Faulty", (World,), {"tasks": tasks})


def _limit(steps) -> type:
    """Tasks with another limit of steps."""

    def tasks(self):
        def params(ids):
            limit = jnp.full(np.shape(ids), steps, jnp.int32)
            return DarkRoom.tasks(self).params(ids).replace(max_steps_in_episode=limit)

        return TaskDistribution(params=params, num_tasks=9)

    return _tasks(tasks)


def _raises(self):
    raise RuntimeError("no map was found")


def _unbatched(self):
    return TaskDistribution(params=lambda ids: self.default_params, num_tasks=9)


WORLDS = {
    "nan_reward": _reward(float("nan")),
    "infinite_reward": _reward(float("inf")),
    "undeclared_reward": _reward(0.5, (0.0, 1.0)),
    "observation_outside": _observation(spaces.Box(0, 1, (2,), jnp.int32)),
    "nan_observation": _observation(
        spaces.Box(0.0, 3.0, (2,), jnp.float32), lambda p: jnp.where(p > 1, jnp.nan, p * 1.0)
    ),
    "other_shape": _observation(
        spaces.Box(0, 2, (2,), jnp.int32), lambda p: jnp.concatenate([p, p])
    ),
    "dict_observation": _observation(
        spaces.Dict({"position": spaces.Box(0, 2, (2,), jnp.int32)}), lambda p: {"position": p}
    ),
    "tuple_observation": _observation(
        spaces.Tuple((spaces.Discrete(3), spaces.Discrete(3))), lambda p: (p[0], p[1])
    ),
    "unbounded_actions": _actions(spaces.Box(-jnp.inf, 1.0, (2,), jnp.float32), 2),
    "too_many_actions": _actions(spaces.Discrete(1000), 1000),
    "no_limit": _limit(0),
    "no_tasks": _tasks(None),
    "tasks_raise": _tasks(_raises),
    "tasks_are_a_list": _tasks(lambda self: [1, 2, 3]),
    "unbatched_tasks": _tasks(_unbatched),
    "too_few_tasks": _tasks(
        lambda self: TaskDistribution(params=DarkRoom.tasks(self).params, num_tasks=2)
    ),
}
globals().update(WORLDS)  # so that a config can name them


def get_config(preset: str):
    """The smoke preset in one of these worlds."""
    config = dark_room.get_config("smoke")
    config.env.name = f"benchmarks.reliability.worlds:{preset}"
    config.env.kwargs = {}
    return config
