"""A bandit whose arms have features, in which the mean rewards are linear.

The features are the same in all tasks, and are not shown. A model that has learnt them can infer
the means of all arms from a few pulls, which an algorithm that treats the arms as independent
can't. Lee et al. (arXiv:2306.14892) test decision pretraining on such bandits.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from ad_jax.envs.arguments import at_least
from ad_jax.envs.tasks import TaskDistribution


@struct.dataclass
class EnvParams(environment.EnvParams):
    """The task: the ``weights`` of the features, float32 [dimensions]."""

    weights: jax.Array = struct.field(default_factory=lambda: jnp.zeros(3))
    max_steps_in_episode: int = 100


@struct.dataclass
class EnvState(environment.EnvState):
    """Pulls made in this trial."""

    time: jax.Array


class LinearBandit(environment.Environment):
    """A bandit with normally distributed rewards; an episode is one trial.

    An arm's features are a random direction, and a task's weights are independent and standard
    normal. So each arm's mean reward is standard normal, too, and arms that point in similar
    directions have similar means.

    Args:
      num_arms: number of arms.
      dimensions: number of features of an arm.
      noise: standard deviation of the rewards around the mean of their arm.
      max_steps_in_episode: pulls of a trial.
    """

    version = "1.0.0"  # changes whenever the same actions would lead to another history

    def __init__(
        self,
        num_arms: int = 10,
        dimensions: int = 3,
        noise: float = 0.5,
        max_steps_in_episode: int = 100,
    ):
        super().__init__()
        at_least(2, num_arms=num_arms)
        at_least(1, dimensions=dimensions, max_steps_in_episode=max_steps_in_episode)
        if not noise > 0:
            raise ValueError(f"noise must be a number above 0, not {noise!r}")
        self.num_arms, self.dimensions, self.noise = num_arms, dimensions, noise
        self.max_steps_in_episode = max_steps_in_episode
        direction = np.random.default_rng(0).normal(size=(num_arms, dimensions))
        direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
        self.features = direction.astype(np.float32)

    @property
    def default_params(self) -> EnvParams:
        """A task in which no arm is better than another."""
        return EnvParams(
            weights=jnp.zeros(self.dimensions),
            max_steps_in_episode=jnp.int32(self.max_steps_in_episode),
        )

    def means(self, params: EnvParams) -> jax.Array:
        """The mean reward of each arm; float32 [..., arms]."""
        return params.weights @ self.features.T

    def step_env(self, key, state, action, params):
        """Pulls an arm. See gymnax's ``Environment.step_env``."""
        reward = self.means(params)[action] + self.noise * jax.random.normal(key)
        state = EnvState(time=state.time + 1)
        return self.observe(key, state, action, params), state, reward, jnp.zeros((), bool), {}

    def reset_env(self, key, params):
        """Starts a trial. See gymnax's ``Environment.reset_env``."""
        state = EnvState(time=jnp.zeros((), jnp.int32))
        return self.observe(key, state, None, params), state

    def observe(self, key, state, action, params):
        """There is nothing to see: 0, int32."""
        del key, state, action, params
        return jnp.zeros((), jnp.int32)

    def is_terminated(self, state, params):
        """Never: a trial ends after its last pull."""
        del state, params
        return jnp.zeros((), bool)

    @property
    def num_actions(self) -> int:
        return self.num_arms

    def action_space(self, params=None):
        del params
        return spaces.Discrete(self.num_arms)

    def observation_space(self, params=None):
        del params
        return spaces.Discrete(1)

    def state_space(self, params):
        del params
        return spaces.Dict({"time": spaces.Discrete(self.max_steps_in_episode + 1)})

    def optimal_return(self, params: EnvParams) -> jax.Array:
        """Expected return of a trial that only pulls the best arm; float32."""
        return self.means(params).max(-1) * self.max_steps_in_episode

    def random_return(self, params: EnvParams) -> jax.Array:
        """Expected return of a trial of random pulls; float32."""
        return self.means(params).mean(-1) * self.max_steps_in_episode

    def expert_action(self, observation: jax.Array, params: EnvParams) -> jax.Array:
        """The best arm; int32."""
        del observation
        return jnp.argmax(self.means(params)).astype(jnp.int32)

    def draw_means(self, key: jax.Array, pulls: jax.Array, rewards: jax.Array) -> jax.Array:
        """Means of the arms, drawn from their distribution given the pulls of a trial.

        Args:
          key: for the draw.
          pulls, rewards: of each arm so far, their number and their sum, float32 [arms].

        Returns:
          float32 [arms].
        """
        phi, variance = jnp.asarray(self.features), self.noise**2
        precision = jnp.eye(self.dimensions) + (phi.T * pulls) @ phi / variance
        mean = jnp.linalg.solve(precision, phi.T @ rewards / variance)
        spread = jnp.linalg.inv(jnp.linalg.cholesky(precision)).T
        return phi @ (mean + spread @ jax.random.normal(key, (self.dimensions,)))

    def tasks(self) -> TaskDistribution:
        """All weights; there are as many tasks as ids."""

        def draw(task_id: jax.Array) -> EnvParams:
            key = jax.random.fold_in(jax.random.key(0), task_id)
            return EnvParams(
                weights=jax.random.normal(key, (self.dimensions,)),
                max_steps_in_episode=jnp.int32(self.max_steps_in_episode),
            )

        params = lambda ids: jax.vmap(draw)(jnp.asarray(ids))
        return TaskDistribution(params=params, num_tasks=None)
