"""The adversarial bandit (paper, section 4): in training, reward hides under the odd arms.

The paper says that odd arms carry the reward in 95 % of the training tasks and even arms at
evaluation. Here this means: every arm of the good group has a success probability drawn uniformly
from [0, 1], the other arms never pay, and with probability 0.95 (the argument ``usual``) the good
group is the usual one. With this interpretation, expert distillation gets the scores in the paper
(0.48 and -0.48).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment
from jax.scipy.special import betaln

from ad_jax.envs.bandit import Bandit
from ad_jax.envs.tasks import TaskDistribution


@struct.dataclass
class EnvParams(environment.EnvParams):
    """The task: ``probability`` of a reward of 1 for each arm, float32 [arms]."""

    probability: jax.Array = struct.field(default_factory=lambda: jnp.full(10, 0.5))
    max_steps_in_episode: int = 100


class AdversarialBandit(Bandit):
    """A Bernoulli bandit; an episode is one trial.

    Args:
      num_arms: number of arms; the first one is arm 1, and odd.
      max_steps_in_episode: pulls of a trial.
      usual: probability that the good group is the usual one (the odd arms, in training).
    """

    version = "1.0.0"  # changes whenever the same actions would lead to another history
    reward_levels = (0.0, 1.0)

    def __init__(self, num_arms: int = 10, max_steps_in_episode: int = 100, usual: float = 0.95):
        super().__init__(num_arms, max_steps_in_episode)
        if not 0 <= usual <= 1:
            raise ValueError(f"usual must be a number from 0 to 1, not {usual!r}")
        self.usual = usual
        self._odd = np.arange(num_arms) % 2 == 0  # the first arm is arm 1

    @property
    def default_params(self) -> EnvParams:
        """A task in which no arm is better than another."""
        return EnvParams(
            probability=jnp.full(self.num_arms, 0.5),
            max_steps_in_episode=jnp.int32(self.max_steps_in_episode),
        )

    def means(self, params: EnvParams) -> jax.Array:
        """The probability of a reward of 1 for each arm; float32 [..., arms]."""
        return params.probability

    def reward(self, key: jax.Array, mean: jax.Array) -> jax.Array:
        """1 with this probability, else 0; float32."""
        return jax.random.bernoulli(key, mean).astype(jnp.float32)

    def draw_means(self, key: jax.Array, pulls: jax.Array, rewards: jax.Array) -> jax.Array:
        """Probabilities of the arms, drawn from their distribution given the pulls of a trial.

        That is the distribution in training tasks, in which the odd arms usually pay.

        Args:
          key: for the draw.
          pulls, rewards: of each arm so far, their number and their sum, float32 [arms].

        Returns:
          float32 [arms].
        """
        key_group, key_arms = jax.random.split(key)
        won, lost = 1 + rewards, 1 + pulls - rewards
        may_pay = jnp.stack([self._odd, ~self._odd])
        # Of each group: the probability of what was seen, if it is the one that may pay.
        never = jnp.where(rewards > 0, -jnp.inf, 0.0)
        seen = jnp.where(may_pay, betaln(won, lost), never).sum(-1)
        prior = jnp.log(jnp.array([self.usual, 1 - self.usual]))
        group = jax.random.categorical(key_group, prior + seen)
        return jnp.where(may_pay[group], jax.random.beta(key_arms, won, lost), 0.0)

    def tasks(self) -> TaskDistribution:
        """Bandits whose odd arms usually pay; ``even`` and ``uniform`` ones are for tests, too."""
        odd = self._odd
        return dataclasses.replace(
            self._distribution(odd, self.usual, 0),
            shifted={
                "even": self._distribution(~odd, self.usual, 1),
                "uniform": self._distribution(np.ones_like(odd), 1.0, 2),
            },
        )

    def _distribution(self, good: np.ndarray, usual: float, stream: int) -> TaskDistribution:
        def draw(task_id: jax.Array) -> EnvParams:
            key = jax.random.fold_in(jax.random.key(stream), task_id)
            key_group, key_arms = jax.random.split(key)
            pays = jax.random.bernoulli(key_group, usual) == good
            probability = jax.random.uniform(key_arms, (self.num_arms,))
            return EnvParams(
                probability=jnp.where(pays, probability, 0.0),
                max_steps_in_episode=jnp.int32(self.max_steps_in_episode),
            )

        params = lambda ids: jax.vmap(draw)(jnp.asarray(ids))
        return TaskDistribution(params=params, num_tasks=None)
