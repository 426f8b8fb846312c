"""What bandits have in common: a trial of pulls, in which there is nothing to see."""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from ad_jax.envs.arguments import at_least


@struct.dataclass
class EnvState(environment.EnvState):
    """Pulls made in this trial."""

    time: jax.Array


class Bandit(environment.Environment):
    """A bandit; an episode is one trial. Subclasses define ``means`` and ``reward``.

    Args:
      num_arms: number of arms.
      max_steps_in_episode: pulls of a trial.
    """

    def __init__(self, num_arms: int, max_steps_in_episode: int):
        super().__init__()
        at_least(2, num_arms=num_arms)
        at_least(1, max_steps_in_episode=max_steps_in_episode)
        self.num_arms = num_arms
        self.max_steps_in_episode = max_steps_in_episode

    def means(self, params: environment.EnvParams) -> jax.Array:
        """The mean reward of each arm; float32 [..., arms]."""
        raise NotImplementedError

    def reward(self, key: jax.Array, mean: jax.Array) -> jax.Array:
        """A reward of an arm with this mean; float32."""
        raise NotImplementedError

    def step_env(self, key, state, action, params):
        """Pulls an arm. See gymnax's ``Environment.step_env``."""
        reward = self.reward(key, self.means(params)[action])
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

    def optimal_return(self, params: environment.EnvParams) -> jax.Array:
        """Expected return of a trial that only pulls the best arm; float32."""
        return self.means(params).max(-1) * self.max_steps_in_episode

    def random_return(self, params: environment.EnvParams) -> jax.Array:
        """Expected return of a trial of random pulls; float32."""
        return self.means(params).mean(-1) * self.max_steps_in_episode

    def expert_action(self, observation: jax.Array, params: environment.EnvParams) -> jax.Array:
        """The best arm; int32."""
        del observation
        return jnp.argmax(self.means(params)).astype(jnp.int32)
