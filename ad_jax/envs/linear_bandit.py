"""A bandit whose arms have features, in which the mean rewards are linear.

The features are the same in all tasks, and are not shown. A model that has learnt them can infer
the means of all arms from a few pulls, which an algorithm that treats the arms as independent
can't. Lee et al. (arXiv:2306.14892) test decision pretraining on such bandits.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment

from ad_jax.envs.arguments import at_least
from ad_jax.envs.bandit import Bandit
from ad_jax.envs.tasks import TaskDistribution


@struct.dataclass
class EnvParams(environment.EnvParams):
    """The task: the ``weights`` of the features, float32 [dimensions]."""

    weights: jax.Array = struct.field(default_factory=lambda: jnp.zeros(3))
    max_steps_in_episode: int = 100


class LinearBandit(Bandit):
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
        super().__init__(num_arms, max_steps_in_episode)
        at_least(1, dimensions=dimensions)
        if not noise > 0:
            raise ValueError(f"noise must be a number above 0, not {noise!r}")
        self.dimensions, self.noise = dimensions, noise
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

    def reward(self, key: jax.Array, mean: jax.Array) -> jax.Array:
        """A draw from the normal distribution around the mean; float32."""
        return mean + self.noise * jax.random.normal(key)

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
