"""Losses, and what they are made of: advantages and returns.

Both sources and methods use them. Losses of distributions over actions are in ``ad_jax.actions``.

An episode that a time limit cut off is bootstrapped from the value of its last observation. Only
after a terminal step is the future worth nothing.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

MIN_VARIANCE = 1e-3


def annealed(start: float, end: float, updates: int) -> Callable[[jax.Array], Any]:
    """A schedule that goes linearly from ``start`` to ``end``, and then stays there.

    Args:
      start: the first value.
      end: the value after ``updates`` updates.
      updates: how many updates that takes; 0 keeps ``start`` forever.

    Returns:
      A function from the number of updates made to the value.
    """
    return optax.linear_schedule(start, end, updates) if updates else lambda count: start


def variance(target: jax.Array) -> jax.Array:
    """The variance of targets, to scale squared errors to the same size in all environments.

    Args:
      target: what is predicted, [...]; no gradient goes through it.

    Returns:
      Their variance, a float32 scalar; at least ``MIN_VARIANCE``, in case all targets are equal.
    """
    return jnp.maximum(jax.lax.stop_gradient(target).var(), MIN_VARIANCE)


def clipped_surrogate(
    log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, clip: float, min_std: float
) -> jax.Array:
    """The policy loss of proximal policy optimisation (Schulman et al., arXiv:1707.06347).

    Args:
      log_prob: log-probability of the actions under the policy that learns, [...].
      old_log_prob: the same under the policy that acted, [...].
      advantage: [...]; it is normalised to mean 0 and standard deviation 1.
      clip: largest change of the probability ratio.
      min_std: the standard deviation counts as at least this, so that advantages which are almost
        equal do not become large.

    Returns:
      The loss, a float32 scalar.
    """
    advantage = (advantage - advantage.mean()) / jnp.maximum(advantage.std(), min_std)
    ratio = jnp.exp(log_prob - old_log_prob)
    clipped = jnp.clip(ratio, 1 - clip, 1 + clip)
    return -jnp.minimum(ratio * advantage, clipped * advantage).mean()


def _backwards(decay: jax.Array, term: jax.Array) -> jax.Array:
    """x_t = term_t + decay_t x_{t+1} along the first axis; after the last step, x is 0."""

    def step(following, inputs):
        decay, term = inputs
        value = term + decay * following
        return value, value

    return jax.lax.scan(step, jnp.zeros_like(term[0]), (decay, term), reverse=True)[1]


def generalised_advantages(reward, value, next_value, is_last, is_terminal, discount, lam):
    """Generalised advantage estimation (Schulman et al., arXiv:1506.02438).

    Args:
      reward, value, is_last, is_terminal: [time, ...].
      next_value: [time, ...], value of the observation that followed the action, before any reset.
      discount: γ.
      lam: λ.

    Returns:
      Advantages, float32 [time, ...].
    """
    delta = reward + discount * jnp.where(is_terminal, 0.0, next_value) - value
    return _backwards(discount * lam * jnp.where(is_last, 0.0, 1.0), delta)


def q_lambda_returns(reward, next_value, is_last, is_terminal, discount, lam):
    """Peng's Q(λ) returns (Peng and Williams 1994): G_t = r_t + γ [(1-λ) V_{t+1} + λ G_{t+1}].

    At the end of an episode or of the sequence, the value replaces the later rewards; after a
    terminal step it is 0.

    Args:
      reward, is_last, is_terminal: [time, ...].
      next_value: [time, ...], greatest action value of the observation that followed the action.
      discount: γ.
      lam: λ; 0 is one-step Q-learning.

    Returns:
      Returns, float32 [time, ...].
    """
    ends = jnp.asarray(is_last).at[-1].set(True)
    mixing = jnp.where(ends, 0.0, lam)
    value = jnp.where(is_terminal, 0.0, next_value)
    return _backwards(discount * mixing, reward + discount * (1 - mixing) * value)
