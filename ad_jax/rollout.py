"""Runs agents in context: many tasks, many rollouts, many episodes, one scan."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ad_jax.interfaces import Agent, History


@struct.dataclass
class RolloutState:
    """The state of rollouts. Outside of ``vmap``, all leaves have leading axes [task, rollout]."""

    key: jax.Array
    env_params: Any
    env_state: Any
    memory: Any
    observation: jax.Array
    previous_action: jax.Array
    previous_reward: jax.Array
    is_first: jax.Array


def make_rollouts(
    env: Any, make_agent: Callable[[Any], Agent]
) -> tuple[Callable[..., RolloutState], Callable[..., tuple[RolloutState, History]]]:
    """Rollouts of an agent whose memory outlives the episodes, from an empty context.

    Args:
      env: a gymnax environment.
      make_agent: ``make_agent(env_params) -> Agent``, the agent for a task. An agent that is to
        learn the task must not use ``env_params``.

    Returns:
      ``init(key, task_ids, env_params, num_rollouts) -> state``, where ``task_ids`` is int32
      [task] and ``env_params`` has the same leading axis. A rollout's random draws depend on the
      key, its task and its number, and not on which other tasks run beside it.
      ``advance(state, steps) -> (state, History [task, rollout, time])``.
    """

    def init_one(key, env_params):
        key, key_reset, key_agent = jax.random.split(key, 3)
        observation, env_state = env.reset(key_reset, env_params)
        return RolloutState(
            key=key,
            env_params=env_params,
            env_state=env_state,
            memory=make_agent(env_params).init(key_agent),
            observation=observation,
            previous_action=jnp.full((), env.num_actions, jnp.int32),
            previous_reward=jnp.zeros(()),
            is_first=jnp.ones((), bool),
        )

    def init(key, task_ids, env_params, num_rollouts):
        fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
        keys = jax.vmap(fold, in_axes=(0, None))(fold(key, task_ids), jnp.arange(num_rollouts))
        return jax.vmap(jax.vmap(init_one, in_axes=(0, None)))(keys, env_params)

    def step_one(state: RolloutState):
        memory, action = make_agent(state.env_params).act(
            state.memory,
            state.observation,
            state.previous_action,
            state.previous_reward,
            state.is_first,
        )
        key, key_step = jax.random.split(state.key)
        observation, env_state, reward, terminated, truncated, _ = env.step(
            key_step, state.env_state, action, state.env_params
        )
        reward = reward.astype(jnp.float32)
        done = terminated | truncated
        history = History(
            observation=state.observation,
            action=action,
            reward=reward,
            is_first=state.is_first,
            is_last=done,
            is_terminal=terminated,
        )
        state = dataclasses.replace(
            state,
            key=key,
            env_state=env_state,
            memory=memory,
            observation=observation,
            previous_action=action.astype(jnp.int32),
            previous_reward=reward,
            is_first=done,
        )
        return state, history

    def advance(state, steps):
        step = jax.vmap(jax.vmap(step_one))
        state, history = jax.lax.scan(lambda s, _: step(s), state, length=steps)
        return state, jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2), history)

    return init, advance
