"""Exact returns of small environments: the optimum and the uniform random policy.

An environment takes part if its dynamics do not depend on the random key and it has
``all_states``, ``state_index`` and ``start_distribution``, as ``GridWorld`` has. The dynamics are
read off the environment's own ``step_env``.
"""

from typing import Any

import jax
import jax.numpy as jnp


def _model(env: Any, params: Any) -> tuple[jax.Array, jax.Array]:
    """(next state index int32, reward float32), each [states, actions], for one task."""
    key = jax.random.key(0)  # the dynamics take no notice of it

    def outcome(state, action):
        _, state, reward, _, _ = env.step_env(key, state, action, params)
        return env.state_index(state), reward

    over_actions = jax.vmap(outcome, in_axes=(None, 0))
    return jax.vmap(over_actions, in_axes=(0, None))(
        jax.tree.map(jnp.asarray, env.all_states()), jnp.arange(env.num_actions)
    )


def _backward(env: Any, params: Any, value_of) -> tuple[jax.Array, jax.Array]:
    """Backward induction over an episode: (Q [time, states, actions], V_0 [states])."""
    next_state, reward = _model(env, params)

    def backup(value, _):
        q = reward + value[next_state]
        return value_of(q), q

    first = jnp.zeros(next_state.shape[0])
    value, q = jax.lax.scan(backup, first, length=env.max_steps_in_episode, reverse=True)
    return q, value


def optimal_q(env: Any, params: Any) -> jax.Array:
    """Optimal action values of one task; float32 [time, states, actions]."""
    return _backward(env, params, lambda q: q.max(-1))[0]


def optimal_return(env: Any, params: Any) -> jax.Array:
    """Expected return of the optimal policy in one episode of one task; float32."""
    return env.start_distribution() @ _backward(env, params, lambda q: q.max(-1))[1]


def random_return(env: Any, params: Any) -> jax.Array:
    """Expected return of the uniform random policy in one episode of one task; float32."""
    return env.start_distribution() @ _backward(env, params, lambda q: q.mean(-1))[1]


def noisy_return(env: Any, params: Any, epsilon: jax.Array) -> jax.Array:
    """Expected return of the optimal policy whose actions are random with probability ``epsilon``.

    Of one episode of one task; float32.
    """
    next_state, reward = _model(env, params)

    def backup(values, _):
        optimal, noisy = (reward + value[next_state] for value in values)
        best = jnp.take_along_axis(noisy, optimal.argmax(-1, keepdims=True), -1)[:, 0]
        return (optimal.max(-1), (1 - epsilon) * best + epsilon * noisy.mean(-1)), None

    nothing = jnp.zeros(next_state.shape[0])
    (_, value), _ = jax.lax.scan(backup, (nothing, nothing), length=env.max_steps_in_episode)
    return env.start_distribution() @ value


def noise_for(env: Any, params: Any, quality: float) -> jax.Array:
    """The ``epsilon`` of ``noisy_return`` that leaves a part of the optimal return; float32.

    Args:
      env, params: the task.
      quality: that part; 1 is no noise, and what a random policy has, or less, is all noise.
    """
    target = quality * optimal_return(env, params)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        more = noisy_return(env, params, middle) > target
        return jnp.where(more, middle, low), jnp.where(more, high, middle)

    return jax.lax.fori_loop(0, 20, halve, (jnp.zeros(()), jnp.ones(())))[0]
