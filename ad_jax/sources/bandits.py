"""Algorithms for bandits as sources: UCB, which the paper distils, and Thompson sampling.

A learning history is one trial. An algorithm is an agent, which keeps its statistics in its
memory. They are empty when a trial begins, and every update is a new trial in every stream.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ad_jax.envs.spaces import component_sizes
from ad_jax.errors import UserError
from ad_jax.interfaces import Agent, Source
from ad_jax.sources.scripted import agent_source

_NEVER_PULLED = 1e3  # above every bound


@dataclasses.dataclass(frozen=True)
class UCBConfig:
    """Settings of UCB.

    Attributes:
      num_streams: trials side by side.
      exploration: c in mean + c √(ln t / n); choose it in proportion to the spread of the rewards.
    """

    num_streams: int = 1
    exploration: float = 0.3


@dataclasses.dataclass(frozen=True)
class ThompsonConfig:
    """Settings of Thompson sampling.

    Attributes:
      num_streams: trials side by side.
      informed: whether the prior is the distribution of the training tasks, for which the
        environment needs ``draw_means``, as in ``envs.adversarial_bandit``. Otherwise every arm
        pays 0 or 1, with a probability whose prior is uniform.
    """

    num_streams: int = 1
    informed: bool = False


def ucb(env: Any, config: UCBConfig) -> Source:
    """UCB (Auer et al., 2002): pulls each arm once, then the highest bound; ties are random.

    Args:
      env: an environment with a single observation.
      config: see UCBConfig.

    Returns:
      A Source; an update is one trial, History [num_streams, max_steps_in_episode].

    Raises:
      UserError: the environment has more than one observation.
    """

    def index(key: jax.Array, pulls: jax.Array, rewards: jax.Array) -> jax.Array:
        time = pulls.sum() + 1
        n = jnp.maximum(pulls, 1)
        bound = rewards / n + config.exploration * jnp.sqrt(jnp.log(time) / n)
        order = jax.random.uniform(key, pulls.shape)
        return jnp.where(pulls == 0, _NEVER_PULLED + order, bound + 1e-6 * order)

    return _index_policy(env, config.num_streams, index)


def thompson(env: Any, config: ThompsonConfig) -> Source:
    """Thompson sampling (Thompson, 1933); as ``ucb`` otherwise.

    Raises:
      UserError: rewards are not 0 or 1 or, if it is informed, the environment lacks ``draw_means``.
    """
    if config.informed:
        if not hasattr(env, "draw_means"):
            raise UserError(
                f"source.thompson.informed=True: {env.name} has no draw_means, which draws from "
                "the distribution of its tasks: give False"
            )
        return _index_policy(env, config.num_streams, env.draw_means)
    if set(getattr(env, "reward_levels", ())) != {0.0, 1.0}:
        raise UserError(
            f"source.thompson.informed=False: rewards of {env.name} are not 0 or 1: give True, or "
            "another source.name"
        )

    def index(key: jax.Array, pulls: jax.Array, rewards: jax.Array) -> jax.Array:
        return jax.random.beta(key, 1 + rewards, 1 + pulls - rewards)

    return _index_policy(env, config.num_streams, index)


def _index_policy(env: Any, streams: int, index: Callable) -> Source:
    """Pulls the arm of the highest ``index(key, pulls [arms], rewards [arms])``."""
    sizes = component_sizes(env.observation_space(env.default_params))
    if sizes is None or np.prod(sizes) != 1:
        raise UserError(
            f"a bandit algorithm can't be used in {env.name}, which has more than one observation: "
            "choose another source.name"
        )

    def init(key: jax.Array):
        return key, jnp.zeros(env.num_actions), jnp.zeros(env.num_actions)

    def act(memory, observation, previous_action, previous_reward, is_first):
        del observation
        key, pulls, rewards = memory
        pulled = jax.nn.one_hot(previous_action, env.num_actions)  # all 0 where there was none
        pulls = jnp.where(is_first, 0.0, pulls + pulled)
        rewards = jnp.where(is_first, 0.0, rewards + pulled * previous_reward)
        key, key_index = jax.random.split(key)
        return (key, pulls, rewards), jnp.argmax(index(key_index, pulls, rewards))

    steps = int(env.default_params.max_steps_in_episode)
    return agent_source(env, lambda env_params: Agent(init, act), streams, steps)
