"""A noise curriculum as a source: an optimal policy whose random actions fade (AD^ε).

Zisman et al., arXiv:2312.12275: histories of gradual improvement without a learner. The
improvement follows the schedule and not what was found, so a model distilled from them has less to
infer; it is here to be compared with.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from ad_jax.errors import UserError
from ad_jax.evaluation.agents import has_optimal_agent, optimal_agent
from ad_jax.interfaces import History, Source


@dataclasses.dataclass(frozen=True)
class NoiseConfig:
    """Settings of the noise curriculum.

    Attributes:
      num_streams: histories side by side.
      rollout_steps: steps of a block.
      epsilon_start, epsilon_end: part of random actions, first and last.
      epsilon_steps: steps of a history over which it falls, linearly.
    """

    num_streams: int = 8
    rollout_steps: int = 20
    epsilon_start: float = 1.0
    epsilon_end: float = 0.0
    epsilon_steps: int = 1600


@struct.dataclass
class NoiseState:
    """The curriculum of one task between two blocks; every leaf is [stream, ...]."""

    key: jax.Array
    env_params: Any
    env_state: Any
    memory: Any
    observation: jax.Array
    previous_reward: jax.Array
    is_first: jax.Array
    time: jax.Array


def noise(env: Any, config: NoiseConfig) -> Source:
    """An optimal policy under fading noise, on one task of ``env``.

    Args:
      env: a gymnax environment whose optimal policy is known; see ``optimal_agent``.
      config: see NoiseConfig.

    Returns:
      A Source; a block is History [num_streams, rollout_steps].

    Raises:
      UserError: no optimal policy is known.
    """
    if not has_optimal_agent(env):
        raise UserError(f"source.name='noise' does not suit {env.name}: no optimal policy is known")
    epsilon = optax.linear_schedule(
        config.epsilon_start, config.epsilon_end, max(1, config.epsilon_steps)
    )

    def init_stream(key: jax.Array, env_params: Any) -> NoiseState:
        key, key_reset, key_agent = jax.random.split(key, 3)
        observation, env_state = env.reset(key_reset, env_params)
        return NoiseState(
            key=key,
            env_params=env_params,
            env_state=env_state,
            memory=optimal_agent(env, env_params).init(key_agent),
            observation=observation,
            previous_reward=jnp.zeros(()),
            is_first=jnp.ones((), bool),
            time=jnp.zeros((), jnp.int32),
        )

    def act(state: NoiseState, _: None) -> tuple[NoiseState, History]:
        key, key_explore, key_random, key_env = jax.random.split(state.key, 4)
        no_action = jnp.full((), env.num_actions, jnp.int32)
        memory, best = optimal_agent(env, state.env_params).act(
            state.memory, state.observation, no_action, state.previous_reward, state.is_first
        )
        explores = jax.random.bernoulli(key_explore, epsilon(state.time))
        anything = jax.random.randint(key_random, (), 0, env.num_actions)
        action = jnp.where(explores, anything, best)
        observation, env_state, reward, terminated, truncated, _ = env.step(
            key_env, state.env_state, action, state.env_params
        )
        reward, done = reward.astype(jnp.float32), terminated | truncated
        history = History(
            observation=state.observation,
            action=action,
            reward=reward,
            is_first=state.is_first,
            is_last=done,
            is_terminal=terminated,
        )
        state = state.replace(
            key=key,
            env_state=env_state,
            memory=memory,
            observation=observation,
            previous_reward=reward,
            is_first=done,
            time=state.time + 1,
        )
        return state, history

    def init(key: jax.Array, env_params: Any) -> NoiseState:
        keys = jax.random.split(key, config.num_streams)
        return jax.vmap(init_stream, in_axes=(0, None))(keys, env_params)

    def step(state: NoiseState) -> tuple[NoiseState, History]:
        block = lambda state: jax.lax.scan(act, state, length=config.rollout_steps)
        return jax.vmap(block)(state)

    return Source(
        init=init, step=step, num_streams=config.num_streams, steps_per_block=config.rollout_steps
    )
