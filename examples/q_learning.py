"""A custom source: tabular Q-learning, whose whole learning history is distilled."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ad_jax.errors import UserError
from ad_jax.interfaces import Source, SourceSpec
from ad_jax.rollout import begin, interact


@dataclasses.dataclass(frozen=True)
class QConfig:
    """Settings of Q-learning.

    Attributes:
      num_streams: independent learners per task, each with its own table.
      rollout_steps: steps of an update.
      learning_rate, discount: α and γ of Q-learning.
      epsilon: initial fraction of random actions; it falls linearly to 0 in ``epsilon_steps``.
    """

    num_streams: int = 16
    rollout_steps: int = 20
    learning_rate: float = 0.5
    discount: float = 0.9
    epsilon: float = 1.0
    epsilon_steps: int = 1000


def make(env: Any, config: QConfig) -> Source:
    """The source as pure functions for one task: ``init``, and ``step`` for one update."""
    if env.observation_space(env.default_params).shape != ():
        raise UserError(f"source.name: Q-learning has a table: {env.name} has no single number")
    size = env.observation_space(env.default_params).n
    streams, steps = config.num_streams, config.rollout_steps

    def init(key, env_params):
        key, key_reset = jax.random.split(key)
        reset = jax.vmap(begin, in_axes=(None, 0, None))
        now = reset(env, jax.random.split(key_reset, streams), env_params)
        table = jnp.zeros((streams, size, env.num_actions))
        return key, env_params, now, table, jnp.int32(0)

    def one_step(now, table, key, env_params, epsilon):
        key_explore, key_action, key_step, key_tie = jax.random.split(key, 4)
        values = table[now.observation]
        best = jnp.argmax(values + 1e-4 * jax.random.uniform(key_tie, values.shape))
        anything = jax.random.randint(key_action, (), 0, env.num_actions)
        action = jnp.where(jax.random.bernoulli(key_explore, epsilon), anything, best)
        then, history, info = interact(env, now, action, key_step, env_params)
        # Bootstrap from the next state, also at a step limit, but not after a terminal state.
        after = table[info["final_observation"]].max() * ~history.is_terminal
        target = history.reward + config.discount * after
        error = target - values[action]
        table = table.at[now.observation, action].add(config.learning_rate * error)
        return then, table, history

    def step(state):
        def of_streams(state, _):
            key, env_params, now, table, time = state
            key, key_step = jax.random.split(key)
            epsilon = config.epsilon * jnp.maximum(0, 1 - time / config.epsilon_steps)
            now, table, history = jax.vmap(one_step, in_axes=(0, 0, 0, None, None))(
                now, table, jax.random.split(key_step, streams), env_params, epsilon
            )
            return (key, env_params, now, table, time + 1), history

        state, histories = jax.lax.scan(of_streams, state, length=steps)
        return state, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), histories)  # [stream, time]

    return Source(init, step, num_streams=streams, steps_per_update=steps)


q_learning = SourceSpec(make, QConfig)
