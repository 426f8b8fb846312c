"""Continuous actions, discretised: each component has a few values.

A policy over discretised actions can have any shape, for example two modes, and the same models,
losses and sources work for discrete and continuous actions (Tang and Agrawal 2020,
arXiv:1901.10500).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces

from ad_jax.errors import UserError

BINS = 11


def is_continuous(space: spaces.Space) -> bool:
    """Whether a space is one of float vectors."""
    return isinstance(space, spaces.Box) and jnp.issubdtype(space.dtype, jnp.floating)


class Binned:
    """An environment whose actions are indices of evenly spaced values, for each component.

    All other attributes are those of the environment that it wraps.

    Args:
      env: a gymnax environment with a Box of floats for actions, one axis, bounded.
      bins: number of values of each component, evenly spaced, including the bounds.

    Raises:
      UserError: the space has another shape or no bounds, or ``bins`` is not from 2 to 256.
    """

    def __init__(self, env: Any, bins: int = BINS):
        space = env.action_space(env.default_params)
        low, high = (np.broadcast_to(b, space.shape).astype(float) for b in (space.low, space.high))
        if len(space.shape) != 1 or not np.isfinite([low, high]).all():
            raise UserError(
                f"{env.name} has continuous actions of shape {tuple(space.shape)} from "
                f"{low.tolist()} to {high.tolist()}: give a vector with finite bounds"
            )
        if not 2 <= bins <= 256:
            raise UserError(f"action_bins={bins}: give 2 to 256")
        self.inner, self.bins, self._low, self._high = env, bins, low, high

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # while it is copied
            raise AttributeError(name)
        found = getattr(self.inner, name)
        if name != "expert_action":
            return found
        return lambda observation, params: self.nearest(found(observation, params))

    def action_space(self, params: Any = None) -> spaces.Box:
        """Vectors of indices from 0 to ``bins`` - 1."""
        del params
        return spaces.Box(0, self.bins - 1, self._low.shape, jnp.int32)

    def continuous(self, action: jax.Array) -> jax.Array:
        """The continuous action that indices stand for; float32 [..., components]."""
        step = (self._high - self._low) / (self.bins - 1)
        return (self._low + action * step).astype(np.float32)

    def nearest(self, action: jax.Array) -> jax.Array:
        """The indices of the values nearest to a continuous action; int32 [..., components]."""
        part = (action - self._low) / (self._high - self._low)
        return jnp.clip(jnp.round(part * (self.bins - 1)), 0, self.bins - 1).astype(jnp.int32)

    def step(self, key: jax.Array, state: Any, action: jax.Array, params: Any = None) -> tuple:
        """See gymnax's ``Environment.step``."""
        return self.inner.step(key, state, self.continuous(action), params)

    def step_env(self, key: jax.Array, state: Any, action: jax.Array, params: Any) -> tuple:
        """See gymnax's ``Environment.step_env``."""
        return self.inner.step_env(key, state, self.continuous(action), params)


def binned(env: Any) -> Any:
    """The environment itself or, if its actions are continuous, the environment as ``Binned``.

    The number of bins is the environment's ``action_bins``, or ``BINS``.
    """
    if not is_continuous(env.action_space(env.default_params)):
        return env
    return Binned(env, getattr(env, "action_bins", BINS))
