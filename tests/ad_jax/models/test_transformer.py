import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from ad_jax.actions import Actions
from ad_jax.errors import UserError
from ad_jax.models.base import SequenceModel
from ad_jax.models.transformer import TransformerConfig

SMALL = dict(width=16, num_layers=2, num_heads=2, mlp_width=32, context=12, attention_chunk=5)
GRID = spaces.Box(0, 8, (2,), jnp.int32)
VARIANTS = [
    {},
    {"norm": "post"},
    {"positions": "learned"},
    {"norm": "post", "positions": "learned", "mask": "token"},
]


def make(space=GRID, **changes):
    return SequenceModel(TransformerConfig(**{**SMALL, **changes}), space, Actions.discrete(5))


def window(seed=0, batch=3, length=12):
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, 9, (batch, length, 2)).astype(np.int32),
        rng.integers(0, 6, (batch, length)).astype(np.int32),
        rng.integers(0, 2, (batch, length)).astype(np.float32),
        rng.random((batch, length)) < 0.2,
    )


def spread(params):
    """Parameters away from their initial values, where zeros and ones would hide mistakes."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    noisy = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noisy)


@pytest.mark.parametrize("changes", VARIANTS)
def test_causality_by_gradients(changes):
    """The logits at a step depend on that step and earlier ones, and on no later one."""
    model = make(space=spaces.Box(0.0, 8.0, (2,)), **changes)
    observation, *rest = window(batch=1)
    observation = observation.astype(np.float32)
    params = spread(model.init(jax.random.key(0), observation, *rest))
    out = lambda x: model.apply(params, x, *rest)[0].sum(-1)
    influence = np.abs(jax.jit(jax.jacobian(out))(observation)[:, 0]).sum(
        -1
    )  # [output step, input step]
    later = np.triu(np.ones((12, 12), bool), 1)
    assert np.all(influence[later] == 0)
    assert np.all(influence[~later] > 0)


@pytest.mark.parametrize("changes", VARIANTS)
def test_cached_logits_equal_the_full_forward_pass(changes):
    """Also where environments are at different steps of their episodes: is_first is random."""
    model = make(**changes)
    inputs = window()
    params = spread(model.init(jax.random.key(0), *inputs))
    full = model.apply(params, *inputs)

    def step_once(cache, step):
        return model.apply(params, cache, *step, method="step")

    for row in range(3):
        steps = jax.tree.map(lambda x, row=row: x[row], inputs)
        _, logits = jax.lax.scan(step_once, model.initial_carry(), steps)
        np.testing.assert_allclose(logits, full[row], atol=2e-4)


def test_one_layer_ring_cache_is_a_sliding_window():
    """Past the context, one layer reads exactly the last ``context`` steps."""
    model = make(num_layers=1, context=5)
    inputs = window(batch=1, length=11)
    params = spread(model.init(jax.random.key(0), *jax.tree.map(lambda x: x[:, :5], inputs)))
    _, logits = jax.lax.scan(
        lambda c, s: model.apply(params, c, *s, method="step"),
        model.initial_carry(),
        jax.tree.map(lambda x: x[0], inputs),
    )
    for t in range(4, 11):
        recomputed = model.apply(params, *jax.tree.map(lambda x, t=t: x[:, t - 4 : t + 1], inputs))
        np.testing.assert_allclose(logits[t], recomputed[0, -1], atol=2e-4)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_with_a_window_the_cache_is_exact_for_ever(norm):
    """Three layers over 30 steps; each layer sees 4 steps, and the cache holds 4."""
    model = make(num_layers=3, attention_window=4, norm=norm)
    inputs = window(batch=1, length=30)
    params = spread(model.init(jax.random.key(0), *inputs))
    full = model.apply(params, *inputs)
    cache = model.initial_carry()
    assert cache.layers[0][0].shape == (2, 4, 8)
    _, logits = jax.lax.scan(
        lambda c, s: model.apply(params, c, *s, method="step"),
        cache,
        jax.tree.map(lambda x: x[0], inputs),
    )
    np.testing.assert_allclose(logits, full[0], atol=3e-4)
    changed = model.apply(params, inputs[0] * (np.arange(30) > 9)[:, None], *inputs[1:])
    assert np.abs(changed - full)[0, 18].max() > 1e-3  # three layers see nine steps back
    np.testing.assert_allclose(changed[0, 19:], full[0, 19:], atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"dropout": 0.2, "attention_dropout": 0.2}])
def test_rematerialised_layers_are_the_same(changes):
    inputs, rngs = window(), {"dropout": jax.random.key(1)}
    params = spread(make().init(jax.random.key(0), *inputs))

    def grads(remat):
        model = make(remat=remat, **changes)
        loss = lambda p: (model.apply(p, *inputs, train=True, rngs=rngs) ** 2).sum()
        return jax.jit(jax.grad(loss))(params)

    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
    jax.tree.map(close, grads(False), grads(True))


def test_every_input_is_read():
    model = make()
    inputs = window()
    params = spread(model.init(jax.random.key(0), *inputs))
    before = model.apply(params, *inputs)
    observation, action, reward, is_first = inputs
    swapped = observation[..., ::-1].copy()  # x and y have separate tables
    for changed in (
        (swapped, action, reward, is_first),
        (observation, (action + 1) % 6, reward, is_first),
        (observation, action, 1 - reward, is_first),
        (observation, action, reward, ~is_first),
    ):
        assert np.abs(model.apply(params, *changed) - before).max() > 1e-2


@pytest.mark.parametrize("mask", ["action", "token"])
def test_input_mask_hides_what_it_says_and_only_in_training(mask):
    model = make(mask=mask, mask_probability=1.0)
    observation, action, reward, is_first = window()
    params = spread(model.init(jax.random.key(0), observation, action, reward, is_first))
    rngs = {"mask": jax.random.key(1)}
    train = lambda *inputs: model.apply(params, *inputs, train=True, rngs=rngs)
    hidden = train(observation, action, reward, is_first)
    other_action = train(observation, (action + 1) % 6, reward, is_first)
    np.testing.assert_array_equal(hidden, other_action)
    other_cell = train(8 - observation, action, reward, is_first)
    assert (np.abs(hidden - other_cell).max() == 0) == (mask == "token")
    assert np.abs(model.apply(params, observation, action, reward, is_first) - hidden).max() > 1e-2


def test_dropout_is_on_in_training_only():
    model = make(dropout=0.2, attention_dropout=0.2)
    inputs = window()
    params = spread(model.init(jax.random.key(0), *inputs))
    train = lambda seed: model.apply(
        params, *inputs, train=True, rngs={"dropout": jax.random.key(seed)}
    )
    assert np.abs(train(0) - train(1)).max() > 1e-2
    np.testing.assert_array_equal(train(0), train(0))
    np.testing.assert_array_equal(model.apply(params, *inputs), model.apply(params, *inputs))


def test_bfloat16_is_close_to_float32_with_the_same_float32_parameters():
    inputs = window()
    params = make().init(jax.random.key(0), *inputs)
    half = make(dtype="bfloat16")
    got = half.apply(params, *inputs)
    assert got.dtype == jnp.float32
    assert all(
        x.dtype == jnp.float32 for x in jax.tree.leaves(half.init(jax.random.key(0), *inputs))
    )
    np.testing.assert_allclose(got, make().apply(params, *inputs), atol=0.1)
    assert np.abs(got - make().apply(params, *inputs)).max() > 1e-5


@pytest.mark.parametrize(
    "changes", [{"norm": "both"}, {"positions": "none"}, {"mask": "all"}, {"dtype": "f8"},
                {"num_heads": 3}, {"attention": "flash"}, {"attention_window": 13}]
)  # fmt: skip
def test_bad_settings_are_refused(changes):
    with pytest.raises(UserError, match=next(iter(changes))):
        TransformerConfig(**{**SMALL, **changes})
