"""Exact returns of small environments: of the optimal policy and of the uniform random one.

This works for environments whose dynamics do not depend on the random key and that have
``all_states``, ``state_index`` and ``start_distribution``, as ``GridWorld`` has. The dynamics come
from the environment's own ``step_env``.

An episode is as long as its task says: ``params.max_steps_in_episode``, which is at most
``env.max_steps_in_episode``. Tasks of several lengths can be batched under ``vmap``.
"""

from typing import Any

import jax
import jax.numpy as jnp


def _model(env: Any, params: Any) -> tuple[jax.Array, jax.Array]:
    """(next state index int32, reward float32), each [states, actions], for one task."""
    key = jax.random.key(0)  # the dynamics do not use it

    def outcome(state, action):
        _, state, reward, _, _ = env.step_env(key, state, action, params)
        return env.state_index(state), reward

    over_actions = jax.vmap(outcome, in_axes=(None, 0))
    return jax.vmap(over_actions, in_axes=(0, None))(
        jax.tree.map(jnp.asarray, env.all_states()), jnp.arange(env.num_actions)
    )


def _backward(env: Any, params: Any, backup: Any, value: Any) -> tuple[Any, Any]:
    """Backward induction over an episode of one task.

    Args:
      env, params: the task.
      backup: ``backup(value) -> (value, output)``, one step back in time.
      value: after the last step.

    Returns:
      (value at the first step, outputs with a leading axis [time]). The time axis has
      ``env.max_steps_in_episode`` entries; those after the end of the episode mean nothing.
    """

    def step(value, time):
        before, output = backup(value)
        inside = time < params.max_steps_in_episode
        return jax.tree.map(lambda new, old: jnp.where(inside, new, old), before, value), output

    return jax.lax.scan(step, value, jnp.arange(env.max_steps_in_episode), reverse=True)


def _action_values(env: Any, params: Any, value_of) -> tuple[jax.Array, jax.Array]:
    """(Q [time, states, actions], V_0 [states]) of the policy whose value is ``value_of(Q_t)``."""
    next_state, reward = _model(env, params)

    def backup(value):
        q = reward + value[next_state]
        return value_of(q), q

    value, q = _backward(env, params, backup, jnp.zeros(next_state.shape[0]))
    return q, value


def optimal_q(env: Any, params: Any) -> jax.Array:
    """Optimal action values of one task; float32 [time, states, actions]."""
    return _action_values(env, params, lambda q: q.max(-1))[0]


def optimal_return(env: Any, params: Any) -> jax.Array:
    """Expected return of the optimal policy in one episode of one task; float32."""
    return env.start_distribution() @ _action_values(env, params, lambda q: q.max(-1))[1]


def random_return(env: Any, params: Any) -> jax.Array:
    """Expected return of the uniform random policy in one episode of one task; float32."""
    return env.start_distribution() @ _action_values(env, params, lambda q: q.mean(-1))[1]


def noisy_return(env: Any, params: Any, epsilon: jax.Array) -> jax.Array:
    """Expected return of the optimal policy whose actions are random with probability ``epsilon``.

    Of one episode of one task; float32.
    """
    next_state, reward = _model(env, params)

    def backup(values):
        optimal, noisy = (reward + value[next_state] for value in values)
        best = jnp.take_along_axis(noisy, optimal.argmax(-1, keepdims=True), -1)[:, 0]
        return (optimal.max(-1), (1 - epsilon) * best + epsilon * noisy.mean(-1)), None

    zeros = jnp.zeros(next_state.shape[0])
    (_, value), _ = _backward(env, params, backup, (zeros, zeros))
    return env.start_distribution() @ value


def epsilon_for(env: Any, params: Any, quality: float) -> jax.Array:
    """The ``epsilon`` at which ``noisy_return`` is a given share of the optimal return; float32.

    Args:
      env, params: the task.
      quality: that share. For 1, epsilon is 0; for the share that a random policy gets, or less,
        it is 1.
    """
    target = quality * optimal_return(env, params)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        more = noisy_return(env, params, middle) > target
        return jnp.where(more, middle, low), jnp.where(more, high, middle)

    return jax.lax.fori_loop(0, 20, halve, (jnp.zeros(()), jnp.ones(())))[0]
