"""What a learner aims at: advantages and returns, backwards through a rollout.

A time limit is no end of the world: an episode that was cut off is bootstrapped from what it saw
last, and only a terminal step is worth nothing more.
"""

import jax
import jax.numpy as jnp


def _backwards(decay: jax.Array, term: jax.Array) -> jax.Array:
    """x_t = term_t + decay_t x_{t+1} along the first axis, nothing following the last."""

    def step(following, inputs):
        decay, term = inputs
        value = term + decay * following
        return value, value

    return jax.lax.scan(step, jnp.zeros_like(term[0]), (decay, term), reverse=True)[1]


def generalised_advantages(reward, value, next_value, is_last, is_terminal, discount, lam):
    """Generalised advantage estimation (Schulman et al., arXiv:1506.02438).

    Args:
      reward, value, is_last, is_terminal: [time, ...].
      next_value: [time, ...], value of what followed the action, before any reset.
      discount: γ.
      lam: λ.

    Returns:
      Advantages, float32 [time, ...].
    """
    delta = reward + discount * jnp.where(is_terminal, 0.0, next_value) - value
    return _backwards(discount * lam * jnp.where(is_last, 0.0, 1.0), delta)


def q_lambda_returns(reward, next_value, is_last, is_terminal, discount, lam):
    """Peng's Q(λ) returns (Peng and Williams 1994): G_t = r_t + γ [(1-λ) V_{t+1} + λ G_{t+1}].

    At the end of an episode and of the sequence, the value stands for the whole future.

    Args:
      reward, is_last, is_terminal: [time, ...].
      next_value: [time, ...], the greatest action value of what followed the action.
      discount: γ.
      lam: λ; 0 is one-step Q-learning.

    Returns:
      Returns, float32 [time, ...].
    """
    ends = jnp.asarray(is_last).at[-1].set(True)
    mixing = jnp.where(ends, 0.0, lam)
    value = jnp.where(is_terminal, 0.0, next_value)
    return _backwards(discount * mixing, reward + discount * (1 - mixing) * value)
