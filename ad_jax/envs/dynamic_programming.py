"""Exact returns of small environments: of the optimal policy and of the uniform random one.

This works for environments whose dynamics do not depend on the random key and that have
``all_states``, ``state_index`` and ``start_distribution``, as ``GridWorld`` has. The dynamics come
from the environment's own ``step_env``.

An episode is as long as its task says: ``params.max_steps_in_episode``, which is at most
``env.max_steps_in_episode``. Tasks of several lengths can be batched under ``vmap``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_DISCOUNT = 0.99  # only to choose among actions with the same return


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


def _value(env: Any, params: Any, value_of: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The value of each state at the first step, where ``value_of(q [states, actions])`` is it."""
    next_state, reward = _model(env, params)
    backup = lambda value: (value_of(reward + value[next_state]), None)
    return _backward(env, params, backup, jnp.zeros(next_state.shape[0]))[0]


def optimal_policy(env: Any, params: Any) -> jax.Array:
    """The optimal actions of one task; int32 [time, states].

    Among actions that are equally good, it takes the one whose rewards come sooner. Otherwise it
    could put off a reward that is given once until the end of the episode.
    """
    next_state, reward = _model(env, params)
    zeros = jnp.zeros(next_state.shape[0])
    backup = lambda values: _optimal_backup(next_state, reward, *values)
    return _backward(env, params, backup, (zeros, zeros))[1]


def _optimal_backup(
    next_state: jax.Array, reward: jax.Array, value: jax.Array, sooner: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """One step back: ((return, discounted return) of the optimal policy, its action), [states]."""
    q, discounted = reward + value[next_state], reward + _DISCOUNT * sooner[next_state]
    best = q.max(-1, keepdims=True)
    action = jnp.where(q == best, discounted, -jnp.inf).argmax(-1)
    return (best[:, 0], _at_action(discounted, action)), action.astype(jnp.int32)


def _at_action(q: jax.Array, action: jax.Array) -> jax.Array:
    """The values of one action in each state: [states, actions], [states] → [states]."""
    return jnp.take_along_axis(q, action[:, None], -1)[:, 0]


def optimal_return(env: Any, params: Any) -> jax.Array:
    """Expected return of the optimal policy in one episode of one task; float32."""
    return env.start_distribution() @ _value(env, params, lambda q: q.max(-1))


def random_return(env: Any, params: Any) -> jax.Array:
    """Expected return of the uniform random policy in one episode of one task; float32."""
    return env.start_distribution() @ _value(env, params, lambda q: q.mean(-1))


def noisy_return(env: Any, params: Any, epsilon: jax.Array) -> jax.Array:
    """Expected return of the optimal policy whose actions are random with probability ``epsilon``.

    Of one episode of one task; float32.
    """
    next_state, reward = _model(env, params)

    def backup(values):
        optimal, noisy = values
        optimal, action = _optimal_backup(next_state, reward, *optimal)
        q = reward + noisy[next_state]
        return (optimal, (1 - epsilon) * _at_action(q, action) + epsilon * q.mean(-1)), None

    zeros = jnp.zeros(next_state.shape[0])
    (_, value), _ = _backward(env, params, backup, ((zeros, zeros), zeros))
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
