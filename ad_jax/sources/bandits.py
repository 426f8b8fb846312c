"""Algorithms for bandits as sources: UCB, which the paper distils, and Thompson sampling.

A learning history is one trial. The algorithm knows nothing when a trial begins; every block is a
new trial of every stream.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ad_jax.envs.spaces import component_sizes
from ad_jax.errors import UserError
from ad_jax.interfaces import History, Source

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
    """Settings of Thompson sampling; the prior of every arm is uniform.

    Attributes:
      num_streams: trials side by side.
    """

    num_streams: int = 1


@struct.dataclass
class BanditState:
    """The learner between two trials, which remembers nothing of them."""

    key: jax.Array
    env_params: Any


def ucb(env: Any, config: UCBConfig) -> Source:
    """Upper confidence bounds (Auer et al., 2002), every arm once at first, ties at random.

    Args:
      env: an environment of one observation, with rewards from 0 to 1.
      config: see UCBConfig.

    Returns:
      A Source; a block is one trial, History [num_streams, max_steps_in_episode].

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
    """Thompson sampling for arms that pay 0 or 1 (Thompson, 1933); as ``ucb`` otherwise."""

    def index(key: jax.Array, pulls: jax.Array, wins: jax.Array) -> jax.Array:
        return jax.random.beta(key, 1 + wins, 1 + pulls - wins)

    return _index_policy(env, config.num_streams, index)


def _index_policy(env: Any, streams: int, index: Callable) -> Source:
    """Pulls the arm of the highest ``index(key, pulls [arms], wins [arms])``."""
    sizes = component_sizes(env.observation_space(env.default_params))
    if sizes is None or np.prod(sizes) != 1:
        raise UserError(
            f"a bandit algorithm does not suit {env.name}, which has more than one observation: "
            "choose another source.name"
        )
    steps = int(env.default_params.max_steps_in_episode)

    def trial(key: jax.Array, env_params: Any) -> History:
        key, key_reset = jax.random.split(key)
        observation, env_state = env.reset(key_reset, env_params)
        nothing = jnp.zeros(env.num_actions)

        def pull(carry: Any, key_and_time: Any):
            env_state, pulls, wins = carry
            key, time = key_and_time
            key_index, key_env = jax.random.split(key)
            arm = jnp.argmax(index(key_index, pulls, wins))
            _, env_state, reward, terminated, truncated, _ = env.step(
                key_env, env_state, arm, env_params
            )
            history = History(
                observation=observation,
                action=arm,
                reward=reward.astype(jnp.float32),
                is_first=time == 0,
                is_last=terminated | truncated,
                is_terminal=terminated,
            )
            chosen = jax.nn.one_hot(arm, env.num_actions)
            return (env_state, pulls + chosen, wins + chosen * reward), history

        keys = jax.random.split(key, steps)
        return jax.lax.scan(pull, (env_state, nothing, nothing), (keys, jnp.arange(steps)))[1]

    def init(key: jax.Array, env_params: Any) -> BanditState:
        return BanditState(key, env_params)

    def step(state: BanditState) -> tuple[BanditState, History]:
        key, key_trials = jax.random.split(state.key)
        trials = jax.vmap(trial, in_axes=(0, None))
        history = trials(jax.random.split(key_trials, streams), state.env_params)
        return state.replace(key=key), history

    return Source(init=init, step=step, num_streams=streams, steps_per_block=steps)
