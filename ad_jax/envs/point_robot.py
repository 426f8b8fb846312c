"""A point in a plane that has to find a hidden goal: continuous observations and actions.

The sparse two-dimensional navigation task of meta-reinforcement learning (Rakelly et al.,
arXiv:1903.08254, section 6): goals on a half circle, a reward only near the goal. Goals on the
other half circle are another distribution, on which a model can be tested as well.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from ad_jax.envs.arguments import at_least
from ad_jax.envs.tasks import TaskDistribution

SPEED = 0.1  # the largest step along each axis
RADIUS = 1.0  # of the circle that goals lie on, around the start
_ANGLES = 10_000  # different goals


@struct.dataclass
class EnvParams(environment.EnvParams):
    """The task: the ``goal`` (x, y), float32 [2]."""

    goal: jax.Array = struct.field(default_factory=lambda: jnp.array([0.0, RADIUS]))
    max_steps_in_episode: int = 20


@struct.dataclass
class EnvState(environment.EnvState):
    """The ``position`` (x, y), float32 [2], and ``time``, the steps made in this episode."""

    position: jax.Array
    time: jax.Array


class PointRobot(environment.Environment):
    """Each step that ends near the goal pays 1; the point observes its own position.

    Episodes start in the middle of the circle, and have a fixed length.

    Args:
      near: the distance from the goal below which a step pays.
      action_bins: number of values of each action component, for policies over discretised
        actions; see ``envs.binned``.
      max_steps_in_episode: steps per episode; reaching a goal takes at most 10.
    """

    version = "1.0.0"  # changes whenever the same actions would lead to another history
    reward_levels = (0.0, 1.0)

    def __init__(self, near: float = 0.25, action_bins: int = 5, max_steps_in_episode: int = 20):
        super().__init__()
        if not 0 < near < RADIUS:
            raise ValueError(f"near must be above 0 and below {RADIUS}, not {near!r}")
        at_least(1, max_steps_in_episode=max_steps_in_episode)
        self.near, self.action_bins = near, action_bins
        self.max_steps_in_episode = max_steps_in_episode

    @property
    def default_params(self) -> EnvParams:
        """The task whose goal is straight ahead."""
        return EnvParams(max_steps_in_episode=jnp.int32(self.max_steps_in_episode))

    def step_env(self, key, state, action, params):
        """Moves, inside a square of side 4 ``RADIUS``. See gymnax's ``step_env``."""
        del key
        moved = state.position + SPEED * jnp.clip(action, -1.0, 1.0)
        position = jnp.clip(moved, -2 * RADIUS, 2 * RADIUS)
        reward = (jnp.linalg.norm(position - params.goal) < self.near).astype(jnp.float32)
        state = EnvState(position=position, time=state.time + 1)
        return position, state, reward, jnp.zeros((), bool), {}

    def reset_env(self, key, params):
        """Starts in the middle. See gymnax's ``Environment.reset_env``."""
        del key, params
        position = jnp.zeros(2)
        return position, EnvState(position=position, time=jnp.zeros((), jnp.int32))

    def observe(self, key, state, action, params):
        """The position (x, y), float32 [2]."""
        del key, action, params
        return state.position

    def is_terminated(self, state, params):
        """Never: only the time limit ends an episode."""
        del state, params
        return jnp.zeros((), bool)

    def expert_action(self, observation: jax.Array, params: EnvParams) -> jax.Array:
        """Straight to the goal; float32 [2]."""
        way = (params.goal - observation) / SPEED
        return way / jnp.maximum(jnp.abs(way).max(), 1.0)

    def optimal_return(self, params: EnvParams) -> jax.Array:
        """Return of an episode that goes straight to the goal; float32."""
        largest = jnp.abs(params.goal).max()
        part = jnp.arange(1, self.max_steps_in_episode + 1) * SPEED / largest  # of the way
        left = jnp.linalg.norm(params.goal) * jnp.maximum(1 - part, 0)
        counted = jnp.arange(self.max_steps_in_episode) < params.max_steps_in_episode
        return ((left < self.near) & counted).sum().astype(jnp.float32)

    @property
    def num_actions(self) -> int:
        return 2

    def action_space(self, params=None):
        """The step along each axis, as a fraction of ``SPEED``."""
        del params
        return spaces.Box(-1.0, 1.0, (2,), jnp.float32)

    def observation_space(self, params=None):
        del params
        return spaces.Box(-2 * RADIUS, 2 * RADIUS, (2,), jnp.float32)

    def state_space(self, params):
        return spaces.Dict({
            "position": self.observation_space(params),
            "time": spaces.Discrete(self.max_steps_in_episode + 1),
        })  # fmt: skip

    def tasks(self) -> TaskDistribution:
        """Goals on the upper half circle; models are also tested on those of the lower one."""
        upper = self._goals(0.0)
        return dataclasses.replace(upper, shifted={"lower half": self._goals(np.pi)})

    def _goals(self, begin: float) -> TaskDistribution:
        def params(ids: np.ndarray) -> EnvParams:
            ids = np.asarray(ids)
            angle = begin + np.pi * (ids + 0.5) / _ANGLES
            goal = RADIUS * np.stack([np.cos(angle), np.sin(angle)], -1)
            limit = jnp.full(ids.shape, self.max_steps_in_episode, jnp.int32)
            return EnvParams(goal=jnp.asarray(goal, jnp.float32), max_steps_in_episode=limit)

        return TaskDistribution(params=params, num_tasks=_ANGLES)
