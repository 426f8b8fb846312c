"""Observation spaces: components, dtypes, and how a network reads an observation."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces

from ad_jax.errors import UserError

MAX_VALUES = 4096  # most values of a component to embed or encode one-hot; poses have more


def component_sizes(space: spaces.Space) -> np.ndarray | None:
    """Number of values of each component, row-major, int [components]; None for floats."""
    if isinstance(space, spaces.Discrete):
        return np.array([space.n])
    if isinstance(space, spaces.Box) and jnp.issubdtype(space.dtype, jnp.integer):
        bounds = (np.asarray(bound, np.int64) for bound in (space.low, space.high))
        low, high = (np.broadcast_to(bound, space.shape).reshape(-1) for bound in bounds)
        return high - low + 1
    return None


def lowest(space: spaces.Space) -> np.ndarray:
    """Smallest value of each component of an integer observation, int32 [components]."""
    if isinstance(space, spaces.Discrete):
        return np.zeros(1, np.int32)
    return np.broadcast_to(space.low, space.shape).reshape(-1).astype(np.int32)


def to_number(digits: Any, sizes: Any) -> Any:
    """Joins components counted from 0, [..., components], to one number [...]; numpy or JAX.

    Args:
      digits: int32, ``digits[..., i]`` below ``sizes[i]``.
      sizes: number of values of each component; their product fits into an int32.
    """
    return (digits * _strides(sizes)).sum(-1)


def from_number(number: Any, sizes: Any) -> Any:
    """Inverse of ``to_number``."""
    return number[..., None] // _strides(sizes) % np.asarray(sizes, np.int32)


def _strides(sizes: Any) -> np.ndarray:
    return np.cumprod(np.append(1, sizes[:-1])).astype(np.int32)


def observation_dtype(space: spaces.Space) -> np.dtype:
    """The dtype of observations in memory: uint8 for pictures, else int32 or float32."""
    if space.dtype == jnp.uint8 and len(space.shape) == 3:
        return np.dtype(np.uint8)
    return np.dtype(np.float32 if component_sizes(space) is None else np.int32)


def kind(space: spaces.Space) -> str:
    """How a network reads an observation.

    Returns:
      "image" for uint8 [height, width, channels]; "discrete" for integers, each component of which
      has at most MAX_VALUES values; "continuous" for floats.

    Raises:
      UserError: it is none of these.
    """
    if isinstance(space, spaces.Box) and len(space.shape) == 3 and space.dtype == jnp.uint8:
        return "image"
    sizes = component_sizes(space)
    if sizes is not None and sizes.max(initial=1) <= MAX_VALUES:
        return "discrete"
    if isinstance(space, spaces.Box) and jnp.issubdtype(space.dtype, jnp.floating):
        return "continuous"
    raise UserError(
        f"no network here reads an observation of {space}: only discrete ones (at most "
        f"{MAX_VALUES} values a component), floats and uint8 images"
    )
