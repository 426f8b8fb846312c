"""What the components of an integer observation can be."""

import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces


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
