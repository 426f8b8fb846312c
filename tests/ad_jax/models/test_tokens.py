"""A token contains what the observation space describes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from ad_jax.actions import Actions
from ad_jax.models.images import ImageEncoder
from ad_jax.models.tokens import TransitionToken, with_scales

ROWS = np.arange(6)
STEP = {
    "previous_action": ROWS % 3,
    "previous_reward": np.zeros(6, np.float32),
    "is_first": np.zeros(6, bool),
}


def embed(space, observation, **kwargs):
    module = TransitionToken(space, Actions.discrete(3), 8, **kwargs)
    params = module.init(jax.random.key(0), observation, **STEP, train=False)
    return params["params"], lambda seen: module.apply(params, seen, **STEP, train=False)


@pytest.mark.parametrize(
    "space, names",
    [
        (spaces.Discrete(1), []),
        (spaces.Discrete(4), ["observation_0"]),
        (spaces.Box(-2, 2, (2,), jnp.int32), ["observation_0", "observation_1"]),
        (spaces.Box(-1.0, 1.0, (2, 2)), ["observation"]),
        (spaces.Box(0, 255, (16, 16, 3), jnp.uint8), ["observation", "ImageEncoder_0"]),
    ],
    ids=str,
)
def test_the_space_chooses_how_an_observation_enters(space, names):
    rng = np.random.default_rng(0)
    high = space.n - 1 if isinstance(space, spaces.Discrete) else space.high
    low = 0 if isinstance(space, spaces.Discrete) else space.low
    floats = jnp.issubdtype(space.dtype, jnp.floating)
    seen = (
        rng.uniform(low, high, (6, *space.shape))
        if floats
        else rng.integers(low, high + 1, (6, *space.shape))
    )
    seen = seen.astype(space.dtype)
    params, apply = embed(space, seen)
    assert set(params) - {"action", "is_first", "reward"} == set(names)
    tokens = apply(seen)
    assert tokens.shape == (6, 8)
    if not names:
        return
    other = seen.copy()
    other[2] = low if floats or (seen[2] != low).any() else high
    changed = np.abs(apply(other) - tokens).max(-1) > 1e-6
    assert changed.tolist() == (ROWS == 2).tolist()


def test_a_model_that_normalises_reads_what_another_reads_of_standardised_numbers():
    rng = np.random.default_rng(0)
    space = spaces.Box(-jnp.inf, jnp.inf, (2, 2))
    seen = rng.normal(1e3, 20.0, (6, 2, 2)).astype(np.float32)
    reward = rng.normal(-50, 5.0, 6).astype(np.float32)
    told = {
        "observation": {"mean": [900.0, 1000.0, 1100.0, 5.0], "deviation": [10.0, 20.0, 30.0, 0.0]},
        "reward": {"mean": [-50.0], "deviation": [5.0]},
    }
    plain, normal = (
        TransitionToken(space, Actions.discrete(3), 8, normalize=n) for n in (False, True)
    )
    params = normal.init(jax.random.key(0), seen, **STEP, train=False)["params"]
    measured = with_scales({"params": {"embed": params}}, told)["params"]["embed"]
    raw = {**STEP, "previous_reward": reward}
    got = normal.apply({"params": measured}, seen, **raw, train=False)

    standard = (seen.reshape(6, 4) - told["observation"]["mean"]) / [10.0, 20.0, 30.0, 1.0]
    others = {k: v for k, v in params.items() if not k.endswith("_scale")}
    scaled = {**STEP, "previous_reward": reward / 5}
    want = plain.apply({"params": others}, standard.reshape(6, 2, 2), **scaled, train=False)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    assert {*params} - {*others} == {"reward_scale", "observation_scale"}


def test_where_an_observation_stands_for_a_picture_only_the_picture_is_seen():
    """The picture here shows the first component and not the second."""
    space = spaces.Box(np.zeros(2), np.full(2, 60_000), (2,), jnp.int32)
    picture = lambda pose: jnp.broadcast_to(
        (pose[..., :1, None, None] % 256).astype(jnp.uint8), (*pose.shape[:-1], 16, 16, 3)
    )
    seen = np.stack([ROWS * 40, ROWS * 9000], -1).astype(np.int32)
    _, apply = embed(space, seen, render=picture)
    np.testing.assert_array_equal(apply(seen), apply(seen * [1, 0]))
    assert (np.abs(apply(seen) - apply(seen * [0, 1])).max(-1) > 1e-6)[1:].all()


def test_what_a_picture_shows_is_told_from_its_features_and_the_error_is_sown():
    """By a linear map, which does not change the token. Nothing is sown at initialisation."""
    space = spaces.Box(0, 255, (16, 16, 3), jnp.uint8)
    seen = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8)
    shown = lambda pictures: pictures.mean((1, 2)) / 255
    plain, module = (
        TransitionToken(space, Actions.discrete(3), 8),
        TransitionToken(space, Actions.discrete(3), 8, shown=shown),
    )
    variables = module.init(jax.random.key(0), seen, **STEP, train=True)
    assert set(variables) == {"params"}
    token, sown = module.apply(variables, seen, **STEP, train=True, mutable="losses")
    params = dict(variables["params"])
    layer = params.pop("shown")
    np.testing.assert_array_equal(token, plain.apply({"params": params}, seen, **STEP, train=False))
    features = ImageEncoder().apply({"params": params["ImageEncoder_0"]}, seen)
    error = features @ layer["kernel"] + layer["bias"] - shown(seen)
    np.testing.assert_allclose(sown["losses"]["shown_error"][0], (error**2).mean(), rtol=1e-4)
