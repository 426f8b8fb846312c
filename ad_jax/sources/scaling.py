"""The scale of what one task's learner sees and earns, measured while it learns.

A policy gradient wants observations and returns near 1. What a learner sees is standardised, and
its rewards are divided by the deviation of the discounted returns so far (Engstrom et al.,
arXiv:2005.12729, count both among the code-level optimisations of PPO). Histories keep the
environment's own numbers.
"""

import jax
import jax.numpy as jnp
from flax import struct

LARGEST = 10.0  # of a standardised number: those beyond are cut off


@struct.dataclass
class Moments:
    """Of all values so far, float32.

    Attributes:
      count: how many there are, [].
      mean, spread: and the sum of squared deviations, ``[*shape]``.
      low, high: the smallest and the largest, ``[*shape]``.
    """

    count: jax.Array
    mean: jax.Array
    spread: jax.Array
    low: jax.Array
    high: jax.Array


@struct.dataclass
class Scale:
    """Moments of what was seen and of discounted returns, and these at present, [stream]."""

    seen: Moments
    returns: Moments
    running: jax.Array


def unknown(shape: tuple[int, ...], streams: int) -> Scale:
    """Before anything was seen: of observations of a shape, and so many streams."""

    def none(shape: tuple[int, ...]) -> Moments:
        nothing = jnp.zeros(shape)
        return Moments(jnp.zeros(()), nothing, nothing, nothing + jnp.inf, nothing - jnp.inf)

    return Scale(none(shape), none(()), jnp.zeros(streams))


def joined(moments: Moments, values: jax.Array) -> Moments:
    """With further values, ``[n, *shape]`` (Chan et al. 1983, the pairwise update)."""
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
    differ = moments.high > moments.low  # a sum of rounded numbers says it less well
    return jnp.where(differ & (variance > 0), jnp.sqrt(variance), 1.0)


def standardised(moments: Moments, values: jax.Array) -> jax.Array:
    """Values ``[..., *shape]`` less their mean, by their deviation, at most ``LARGEST``."""
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
