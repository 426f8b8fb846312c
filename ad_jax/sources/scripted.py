"""Sources made from agents. Either nothing learns, or the agent's memory does the learning."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ad_jax.interfaces import Agent, History, Source
from ad_jax.rollout import RolloutState, make_rollouts


def agent_source(
    env: Any, make_agent: Callable[[Any], Agent], num_streams: int, steps_per_update: int
) -> Source:
    """A source whose histories are those of an agent.

    Args:
      env: a gymnax environment.
      make_agent: ``make_agent(env_params) -> Agent``, the agent for a task.
      num_streams: histories side by side.
      steps_per_update: steps of an update.

    Returns:
      A Source; an update is History [num_streams, steps_per_update].
    """
    start, advance = make_rollouts(env, make_agent)

    def init(key: jax.Array, env_params: Any) -> RolloutState:
        one_task = jax.tree.map(lambda x: jnp.asarray(x)[None], env_params)
        return start(key, jnp.zeros(1, jnp.int32), one_task, num_streams)

    def step(state: RolloutState) -> tuple[RolloutState, History]:
        state, history = advance(state, steps_per_update)
        return state, jax.tree.map(lambda x: x[0], history)

    return Source(init, step, num_streams, steps_per_update)
