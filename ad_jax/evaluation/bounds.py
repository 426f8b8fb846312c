"""Returns to compare with: of the optimal policy, a random policy, and the source itself."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ad_jax.actions import Actions
from ad_jax.envs import dynamic_programming
from ad_jax.evaluation.agents import random_agent
from ad_jax.evaluation.statistics import episode_returns
from ad_jax.interfaces import History, Source
from ad_jax.rollout import make_rollouts

_RANDOM_ROLLOUTS = 32


def optimal_returns(env: Any, env_params: Any) -> np.ndarray | None:
    """Expected return of the optimal policy in one episode of each task; None if not known.

    It comes from the environment's own ``optimal_return(env_params)`` if it has one, else from
    exact dynamic programming if the environment lists its states.

    Args:
      env: a gymnax environment.
      env_params: batched over tasks.

    Returns:
      float32 [task].
    """
    optimal = _optimal(env)
    returns = None if optimal is None else optimal(env_params)
    return None if returns is None else np.asarray(returns)


def random_returns(env: Any, env_params: Any) -> np.ndarray:
    """Return of a uniform random policy in one episode of each task; float32 [task].

    Exact where possible, as in ``optimal_returns``; otherwise the mean over random rollouts.
    """
    if exact := _random(env):
        return np.asarray(exact(env_params))
    limits = np.asarray(env_params.max_steps_in_episode)
    history = _random_episodes(env)(env_params, int(limits.max()))
    returns = episode_returns(np.asarray(history.reward), np.asarray(history.is_last), 1)
    return returns.mean((1, 2))


# Cached per environment, so that each function is compiled once.


@functools.lru_cache(maxsize=16)
def _optimal(env: Any) -> Callable[[Any], Any] | None:
    own = getattr(env, "optimal_return", None)
    if own is None and hasattr(env, "all_states"):
        own = functools.partial(dynamic_programming.optimal_return, env)
    return None if own is None else jax.jit(jax.vmap(own))


@functools.lru_cache(maxsize=16)
def _random(env: Any) -> Callable[[Any], Any] | None:
    own = getattr(env, "random_return", None)
    if own is None and hasattr(env, "all_states"):
        own = functools.partial(dynamic_programming.random_return, env)
    return None if own is None else jax.jit(jax.vmap(own))


@functools.lru_cache(maxsize=16)
def _random_episodes(env: Any) -> Callable[[Any, int], History]:
    init, advance = make_rollouts(env, lambda _: random_agent(Actions.of(env)))

    def run(env_params: Any, steps: int) -> History:
        tasks = jnp.arange(len(env_params.max_steps_in_episode))
        state = init(jax.random.key(0), tasks, env_params, _RANDOM_ROLLOUTS)
        return advance(state, steps)[1]

    return jax.jit(run, static_argnums=1)


def source_rewards(source: Source, key: jax.Array, env_params: Any, updates: int) -> np.ndarray:
    """Mean reward of a source at each step of an update, over its streams and several updates.

    Args:
      source: one that starts from scratch with every update, as bandit algorithms do.
      key: for everything random.
      env_params: batched over tasks.
      updates: number of updates to average over.

    Returns:
      float32 [task, steps_per_update].
    """

    def run(key: jax.Array, env_params: Any) -> jax.Array:
        def update(state: Any, _: None):
            state, history = source.step(state)
            return state, history.reward.mean(0)

        return jax.lax.scan(update, source.init(key, env_params), length=updates)[1].mean(0)

    tasks = len(jax.tree.leaves(env_params)[0])
    return np.asarray(jax.jit(jax.vmap(run))(jax.random.split(key, tasks), env_params))
