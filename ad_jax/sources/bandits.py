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
from jax.scipy.special import betaln

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
      exploration: c in mean + c √(ln t / n).
    """

    num_streams: int = 1
    exploration: float = 0.3


@dataclasses.dataclass(frozen=True)
class ThompsonConfig:
    """Settings of Thompson sampling.

    Attributes:
      num_streams: trials side by side.
      informed: whether the prior is the distribution of the training tasks, which the environment
        must tell (``groups``, as in ``envs.adversarial_bandit``). Otherwise that of every arm is
        uniform.
    """

    num_streams: int = 1
    informed: bool = False


def ucb(env: Any, config: UCBConfig) -> Source:
    """UCB (Auer et al., 2002): pulls each arm once, then the highest bound; ties are random.

    Args:
      env: an environment with a single observation, and rewards from 0 to 1.
      config: see UCBConfig.

    Returns:
      A Source; an update is one trial, History [num_streams, max_steps_in_episode].

    Raises:
      UserError: the environment has more than one observation.
    """

    def index(key: jax.Array, pulls: jax.Array, wins: jax.Array) -> jax.Array:
        time = pulls.sum() + 1
        n = jnp.maximum(pulls, 1)
        bound = wins / n + config.exploration * jnp.sqrt(jnp.log(time) / n)
        order = jax.random.uniform(key, pulls.shape)
        return jnp.where(pulls == 0, _NEVER_PULLED + order, bound + 1e-6 * order)

    return _index_policy(env, config.num_streams, index)


def thompson(env: Any, config: ThompsonConfig) -> Source:
    """Thompson sampling for arms that pay 0 or 1 (Thompson, 1933); as ``ucb`` otherwise.

    Raises:
      UserError: it is to be informed, and the environment does not tell its groups of arms.
    """
    every_arm = np.ones(1), np.ones((1, env.num_actions), bool)
    if config.informed and not hasattr(env, "groups"):
        raise UserError(
            f"source.thompson.informed=True: {env.name} does not say which arms may pay: give False"
        )
    weight, may_pay = map(jnp.asarray, env.groups() if config.informed else every_arm)

    def index(key: jax.Array, pulls: jax.Array, wins: jax.Array) -> jax.Array:
        key_group, key_arms = jax.random.split(key)
        won, lost = 1 + wins, 1 + pulls - wins
        # Of each group: the probability of what was seen, if it is the one that may pay.
        seen = jnp.where(may_pay, betaln(won, lost), jnp.where(wins > 0, -jnp.inf, 0.0)).sum(-1)
        group = jax.random.categorical(key_group, jnp.log(weight) + seen)
        return jnp.where(may_pay[group], jax.random.beta(key_arms, won, lost), 0.0)

    return _index_policy(env, config.num_streams, index)


def _index_policy(env: Any, streams: int, index: Callable) -> Source:
    """Pulls the arm of the highest ``index(key, pulls [arms], wins [arms])``."""
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
        key, pulls, wins = memory
        pulled = jax.nn.one_hot(previous_action, env.num_actions)  # all 0 where there was none
        pulls = jnp.where(is_first, 0.0, pulls + pulled)
        wins = jnp.where(is_first, 0.0, wins + pulled * previous_reward)
        key, key_index = jax.random.split(key)
        return (key, pulls, wins), jnp.argmax(index(key_index, pulls, wins))

    steps = int(env.default_params.max_steps_in_episode)
    return agent_source(env, lambda env_params: Agent(init, act), streams, steps)
