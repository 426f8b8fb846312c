"""Scaling of one task's observations and rewards, measured while its learner learns.

Policy gradients work best with observations and returns near 1. So observations are standardised,
and rewards are divided by the deviation of the discounted returns so far (Engstrom et al.,
arXiv:2005.12729, count both among the code-level optimisations of PPO). Histories keep the
environment's own numbers.
"""

import jax
import jax.numpy as jnp
from flax import struct

LARGEST = 10.0  # standardised numbers are clipped to ± this


@struct.dataclass
class Moments:
    """Moments of all values so far, float32.

    Attributes:
      count: number of values, [].
      mean: their mean, ``[*shape]``.
      spread: their sum of squared deviations from the mean, ``[*shape]``.
      low, high: the smallest and the largest value, ``[*shape]``.
    """

    count: jax.Array
    mean: jax.Array
    spread: jax.Array
    low: jax.Array
    high: jax.Array


@struct.dataclass
class Scale:
    """What scaling needs to know.

    Attributes:
      seen: moments of the observations.
      returns: moments of the discounted returns.
      running: the discounted return so far of the present episode, float32 [stream].
    """

    seen: Moments
    returns: Moments
    running: jax.Array


def unknown(shape: tuple[int, ...], streams: int) -> Scale:
    """The scale before anything was seen, for observations of a shape and a number of streams."""

    def none(shape: tuple[int, ...]) -> Moments:
        nothing = jnp.zeros(shape)
        return Moments(jnp.zeros(()), nothing, nothing, nothing + jnp.inf, nothing - jnp.inf)

    return Scale(none(shape), none(()), jnp.zeros(streams))


def joined(moments: Moments, values: jax.Array) -> Moments:
    """The moments with ``[n, *shape]`` more values (pairwise update of Chan et al. 1983)."""
    number = values.shape[0]
    mean = values.mean(0)
    count = moments.count + number
    apart = mean - moments.mean
    return Moments(
        count,
        moments.mean + apart * number / count,
        moments.spread
        + jnp.square(values - mean).sum(0)
        + jnp.square(apart) * moments.count * number / count,
        jnp.minimum(moments.low, values.min(0)),
        jnp.maximum(moments.high, values.max(0)),
    )


def deviation(moments: Moments) -> jax.Array:
    """The standard deviation, ``[*shape]``; 1 where all values were equal, or there were none."""
    variance = moments.spread / jnp.maximum(moments.count, 1)
    differ = moments.high > moments.low  # safer than the variance, which has rounding errors
    return jnp.where(differ & (variance > 0), jnp.sqrt(variance), 1.0)


def standardised(moments: Moments, values: jax.Array) -> jax.Array:
    """Values ``[..., *shape]`` minus the mean, by the deviation, clipped to ``LARGEST``."""
    return jnp.clip((values - moments.mean) / deviation(moments), -LARGEST, LARGEST)


def measured(
    scale: Scale, seen: jax.Array, reward: jax.Array, is_last: jax.Array, discount: float
) -> Scale:
    """The scale after a rollout.

    Args:
      scale: before it.
      seen: ``[time, stream, *shape]``.
      reward, is_last: [time, stream].
      discount: γ of the returns, which begin anew with each episode.
    """

    def step(running: jax.Array, at: tuple[jax.Array, jax.Array]):
        reward, last = at
        running = discount * running + reward
        return jnp.where(last, 0.0, running), running

    running, returns = jax.lax.scan(step, scale.running, (reward, is_last))
    return Scale(
        joined(scale.seen, seen.reshape(-1, *seen.shape[2:])),
        joined(scale.returns, returns.reshape(-1)),
        running,
    )
