"""A custom environment: a corridor with a reward in one cell, which is not visible."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from ad_jax.envs.tasks import TaskDistribution


@struct.dataclass
class EnvParams(environment.EnvParams):
    """The task: ``goal`` is the cell with the reward, int32."""

    goal: jax.Array = struct.field(default_factory=lambda: jnp.int32(0))
    max_steps_in_episode: int = 20


@struct.dataclass
class EnvState(environment.EnvState):
    """The agent's cell, int32, and the steps taken in this episode."""

    cell: jax.Array
    time: jax.Array


class Corridor(environment.Environment):
    """Actions are left, right and stay; reward 1 on every step that ends at the goal."""

    reward_levels = (0.0, 1.0)  # rewards are stored as bits
    version = "1.0.0"  # histories of another version are refused

    def __init__(self, length: int = 13, max_steps_in_episode: int = 20):
        super().__init__()
        self.length, self.max_steps_in_episode = length, max_steps_in_episode

    @property
    def default_params(self) -> EnvParams:
        return EnvParams(max_steps_in_episode=jnp.int32(self.max_steps_in_episode))

    def tasks(self) -> TaskDistribution:
        """One task for each cell. Every leaf of the params needs a leading axis [task]."""

        def params(ids: np.ndarray) -> EnvParams:
            limit = jnp.full(len(ids), self.max_steps_in_episode, jnp.int32)
            return EnvParams(goal=jnp.asarray(ids, jnp.int32), max_steps_in_episode=limit)

        return TaskDistribution(params=params, num_tasks=self.length)

    def step_env(self, key, state, action, params):
        move = jnp.array([-1, 1, 0])[action]
        cell = jnp.clip(state.cell + move, 0, self.length - 1).astype(jnp.int32)
        reward = (cell == params.goal).astype(jnp.float32)
        return cell, EnvState(cell=cell, time=state.time + 1), reward, jnp.zeros((), bool), {}

    def reset_env(self, key, params):
        cell = jnp.int32(self.length // 2)
        return cell, EnvState(cell=cell, time=jnp.int32(0))

    def is_terminated(self, state, params):
        return jnp.zeros((), bool)  # only the step limit ends an episode

    @property
    def num_actions(self) -> int:
        return 3

    def action_space(self, params=None):
        return spaces.Discrete(3)

    def observation_space(self, params=None):
        return spaces.Discrete(self.length)
