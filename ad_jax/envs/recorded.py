"""An environment known only from histories: it has spaces and tasks, but no dynamics."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from ad_jax.envs.tasks import TaskDistribution
from ad_jax.errors import UserError


@struct.dataclass
class EnvParams(environment.EnvParams):
    """The task: ``task`` is its number in the histories, int32."""

    task: Any = 0
    max_steps_in_episode: int = 1


class Recorded(environment.Environment):
    """The environment of data from ``data_pipelines.convert``. No agent can act in it.

    Args:
      shape: of an observation.
      low, sizes: of integer observations, the smallest value and the number of values of each
        component, row-major; None for floats and pictures.
      pictures: whether observations are uint8 pictures.
      num_actions: actions are 0 to num_actions - 1.
      action_sizes: of actions with components, the number of values of each; None for one number.
      num_tasks: tasks are 0 to num_tasks - 1.
      max_steps_in_episode: of the longest episode.
    """

    version = "1.0.0"
    acts = False  # so only a model's predictions can be evaluated

    def __init__(
        self,
        shape: Sequence[int] = (),
        low: Sequence[int] | None = None,
        sizes: Sequence[int] | None = None,
        pictures: bool = False,
        num_actions: int = 2,
        action_sizes: Sequence[int] | None = None,
        num_tasks: int = 2,
        max_steps_in_episode: int = 1,
    ):
        super().__init__()
        shape = tuple(shape)
        if sizes is not None:
            bottom = np.array(low, np.int32).reshape(shape)
            top = bottom + np.array(sizes, np.int32).reshape(shape) - 1
            self._space = spaces.Box(bottom, top, shape, jnp.int32)
        elif pictures:
            self._space = spaces.Box(0, 255, shape, jnp.uint8)
        else:
            self._space = spaces.Box(-jnp.inf, jnp.inf, shape, jnp.float32)
        self._num_actions, self._num_tasks = num_actions, num_tasks
        self._action_sizes = action_sizes
        self.max_steps_in_episode = max_steps_in_episode

    @property
    def default_params(self) -> EnvParams:
        return EnvParams(max_steps_in_episode=jnp.int32(self.max_steps_in_episode))

    def tasks(self) -> TaskDistribution:
        """One task for each task number of the histories."""

        def params(ids: np.ndarray) -> EnvParams:
            limit = jnp.full(len(ids), self.max_steps_in_episode, jnp.int32)
            return EnvParams(task=jnp.asarray(ids, jnp.int32), max_steps_in_episode=limit)

        return TaskDistribution(params=params, num_tasks=self._num_tasks)

    def reset_env(self, key, params):
        raise UserError("recorded histories have no environment to act in")

    def step_env(self, key, state, action, params):
        raise UserError("recorded histories have no environment to act in")

    @property
    def num_actions(self) -> int:
        return self._num_actions

    def action_space(self, params=None):
        del params
        if self._action_sizes is None:
            return spaces.Discrete(self._num_actions)
        highest = np.array(self._action_sizes, np.int32) - 1
        return spaces.Box(np.zeros_like(highest), highest, highest.shape, jnp.int32)

    def observation_space(self, params=None):
        del params
        return self._space
