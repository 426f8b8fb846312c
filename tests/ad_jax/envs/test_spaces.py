"""The kind and the dtype of an observation, read from its space."""

import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from ad_jax.envs.spaces import kind, observation_dtype
from ad_jax.errors import UserError

KINDS = {
    "discrete": [
        spaces.Discrete(1),
        spaces.Box(-3, 5, (2, 2), jnp.int32),
        spaces.Box(0, 255, (7,), jnp.uint8),
    ],
    "continuous": [spaces.Box(-1.0, 1.0, (4,)), spaces.Box(0, 1, (10, 10, 4), jnp.float32)],
    "image": [spaces.Box(0, 255, (72, 96, 3), jnp.uint8)],
}
DTYPES = {"discrete": np.int32, "continuous": np.float32, "image": np.uint8}
CASES = [(name, space) for name, group in KINDS.items() for space in group]


@pytest.mark.parametrize("name, space", CASES, ids=str)
def test_kinds(name, space):
    assert kind(space) == name
    assert observation_dtype(space) == DTYPES[name]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 65535, (3,), jnp.int32),
        spaces.Dict({"a": spaces.Discrete(2)}),
        spaces.Tuple([spaces.Discrete(2)]),
    ],
    ids=str,
)
def test_spaces_that_nothing_reads(space):
    with pytest.raises(UserError, match="no network here reads an observation of"):
        kind(space)
