import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gymnax.environments import spaces

from ad_jax.actions import Actions
from ad_jax.distributed import sharding
from ad_jax.errors import UserError
from ad_jax.methods import ad
from ad_jax.methods.optimizer import (
    OptimizerConfig,
    describe_partition,
    learning_rate,
    make_optimizer,
    partition,
)
from ad_jax.methods.train_state import INPUTS, init_state
from ad_jax.models import CORES
from ad_jax.models.base import SequenceModel
from ad_jax.models.transformer import TransformerConfig

GOLDEN_FIRST_LOSS = 1.61090  # see test_golden_first_loss
CONFIG = TransformerConfig(
    width=16, num_layers=1, num_heads=2, mlp_width=32, context=10, dropout=0.1, mask_probability=0.1
)
MODEL = SequenceModel(CONFIG, spaces.Box(0, 8, (2,), jnp.int32), Actions.discrete(5))


def copy_task(seed, batch=16):
    """The action to predict is the previous one: solvable from the input alone."""
    rng = np.random.default_rng(seed)
    action = rng.integers(0, 5, (batch, 11)).astype(np.int32)
    return {
        "observation": rng.integers(0, 9, (batch, 10, 2)).astype(np.int32),
        "previous_action": action[:, :-1],
        "previous_reward": np.zeros((batch, 10), np.float32),
        "is_first": np.zeros((batch, 10), bool),
        "action": action[:, :-1],
    }


@functools.cache
def jitted():
    """(init, update), compiled once for all tests."""
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-2, warmup_steps=5), 400)
    init = jax.jit(lambda key: init_state(key, MODEL, optimizer))
    return init, jax.jit(ad.make_update(MODEL, optimizer))


def train(steps, mesh=None, shardings=None, seed=0):
    init, update = jitted()
    state, shard = init(jax.random.key(0)), None
    if mesh:
        state, shard = jax.device_put(state, shardings), sharding.batch_sharding(mesh)
        out = shardings, sharding.replicated(mesh)
        update = sharding.jit_on_mesh(mesh, update, out_shardings=out)
    losses = []
    for step in range(steps):
        batch = jax.device_put(copy_task(step), shard)
        state, metrics = update(state, batch, jax.random.key(seed))
        losses.append(float(metrics["loss"]))
    return state, losses


def test_training_learns():
    state, losses = train(200)
    assert losses[0] == pytest.approx(np.log(5), abs=0.5)
    assert losses[-1] < 0.45  # a tenth of the inputs is masked
    assert int(state.step) == 200


def test_muon_learns_too_and_moves_every_parameter():
    optimizer = make_optimizer(OptimizerConfig(name="muon", learning_rate=2e-2, warmup_steps=5), 40)
    first = state = init_state(jax.random.key(0), MODEL, optimizer)
    update = jax.jit(ad.make_update(MODEL, optimizer))
    for step in range(40):
        state, metrics = update(state, copy_task(step), jax.random.key(0))
    assert metrics["loss"] < 1.0
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), first.params, state.params)
    moved["params"]["embed"].pop("reward")  # the reward is always 0
    assert all(jax.tree.leaves(moved))


def test_muon_orthogonalises_the_matrices_of_the_blocks():
    config = OptimizerConfig(
        name="muon", learning_rate=1.0, initial_learning_rate=1.0, warmup_steps=1
    )
    optimizer = make_optimizer(config, 10)
    params = init_state(jax.random.key(0), MODEL, optimizer).params
    rng = np.random.default_rng(0)
    grads = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)
    updates, _ = jax.jit(optimizer.update)(grads, optimizer.init(params), params)
    block = updates["params"]["blocks_0"]
    matrices = {name: np.asarray(block[name]["kernel"]) for name in ("qkv", "out", "up", "down")}
    qkv = matrices.pop("qkv")  # three matrices, each orthogonal by itself
    assert qkv.shape[1] == 3
    matrices |= {name: qkv[:, i] for i, name in enumerate(("query", "key", "value"))}
    shapes = {"out": (16, 16), "up": (16, 32), "down": (32, 16)}
    for name, matrix in matrices.items():
        shape = shapes.get(name, (16, 16))
        values = np.linalg.svd(matrix.reshape(shape), compute_uv=False)
        # The Newton-Schulz iteration brings singular values near 1; they are then scaled by 0.2
        # times the square root of the longer side.
        np.testing.assert_allclose(values / (0.2 * max(shape) ** 0.5), 1, atol=0.4)
    head = np.abs(updates["params"]["head"]["kernel"])  # Adam's first step: the same everywhere
    np.testing.assert_allclose(head, head.mean(), rtol=1e-3)


def test_the_first_batch_tells_the_encoder_what_is_usual():
    picture = lambda x: jnp.tile(x[..., None, None] * 30, (1, 2, 3)).astype(jnp.uint8)
    model = SequenceModel(CONFIG, MODEL.space, Actions.discrete(5), picture)
    optimizer = make_optimizer(OptimizerConfig(warmup_steps=5), 10)
    batch = copy_task(0)
    state = init_state(jax.random.key(0), model, optimizer, batch)
    mean = state.params["params"]["embed"]["ImageEncoder_0"]["mean"]
    np.testing.assert_allclose(mean, picture(batch["observation"]).mean((0, 1)) / 255, rtol=1e-5)
    state, _ = jax.jit(ad.make_update(model, optimizer))(state, batch, jax.random.key(0))
    after = state.params["params"]["embed"]["ImageEncoder_0"]["mean"]
    np.testing.assert_array_equal(mean, after)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_what_an_encoder_measured_and_what_has_no_decay_stays(name):
    """Without gradients, only weight decay moves parameters, and only the kernels."""
    picture = lambda x: jnp.tile(x[..., None, None] * 30, (1, 2, 3)).astype(jnp.uint8)
    model = SequenceModel(CONFIG, MODEL.space, Actions.discrete(5), picture)
    config = OptimizerConfig(name=name, weight_decay=0.1, warmup_steps=1)
    optimizer = make_optimizer(config, 10)
    params = init_state(jax.random.key(0), model, optimizer, copy_task(0)).params
    params = jax.tree.map(lambda x: x + 1.0, params)
    grads = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        assert bool((update != 0).any()) == (path[-1].key == "kernel"), path


def test_every_parameter_has_one_optimiser():
    for core, settings in CORES.items():
        model = SequenceModel(settings(), MODEL.space, Actions.discrete(5))
        params = init_state(jax.random.key(0), model, optax.identity()).params
        labels = partition(OptimizerConfig(name="muon"), params)["params"]
        assert set(jax.tree.leaves(labels["head"])) == {"adamw"}
        assert set(jax.tree.leaves(labels["embed"])) == {"adamw"}
        matrices = [
            label
            for path, label in jax.tree_util.tree_leaves_with_path(labels)
            if path[-1].key == "kernel" and path[0].key not in ("embed", "head")
        ]
        assert matrices and set(matrices) == {"muon"}, core
    text = describe_partition(OptimizerConfig(name="muon"), params)
    assert re.fullmatch(r"adamw [\d,]+, muon [\d,]+", text)


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(UserError, match=r"^name='sgd'"):
        OptimizerConfig(name="sgd")


def test_golden_first_loss():
    """The very first loss, to detect a change of the model, its initialisation or its keys.

    Update the number if such a change is intended.
    """
    _, losses = train(1)
    assert losses[0] == pytest.approx(GOLDEN_FIRST_LOSS, abs=1e-4)


def test_loss_is_the_cross_entropy_of_every_position():
    model = SequenceModel(
        TransformerConfig(width=16, num_layers=1, num_heads=2, mlp_width=32, context=10),
        MODEL.space, Actions.discrete(5),
    )  # fmt: skip
    batch = copy_task(0)
    params = model.init(jax.random.key(0), *(batch[k] for k in INPUTS))
    logits = np.asarray(model.apply(params, *(batch[k] for k in INPUTS)), np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    picked = np.take_along_axis(log_probs, batch["action"][..., None], -1)[..., 0]
    for smoothing in (0.0, 0.2):
        want = -((1 - smoothing) * picked + smoothing * log_probs.mean(-1)).mean()
        got, _ = ad.distillation_loss(model, params, batch, jax.random.key(0), smoothing)
        assert float(got) == pytest.approx(want, abs=1e-4)


def test_random_draws_depend_on_seed_and_step_alone():
    (a, _), (b, _), (c, _) = train(3), train(3), train(3, seed=1)
    same = jax.tree.map(lambda x, y: bool((x == y).all()), a.params, b.params)
    assert all(jax.tree.leaves(same))
    other = jax.tree.map(lambda x, y: bool((x == y).all()), a.params, c.params)
    assert not all(jax.tree.leaves(other))


def test_gradients_of_parts_of_a_batch_are_averaged():
    config = TransformerConfig(width=16, num_layers=1, num_heads=2, mlp_width=32, context=10)
    model = SequenceModel(config, MODEL.space, Actions.discrete(5))  # without dropout or masks
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-2, warmup_steps=5), 400)
    state = init_state(jax.random.key(0), model, optimizer)
    step = lambda parts: jax.jit(ad.make_update(model, optimizer, accumulate=parts))(
        state, copy_task(0), jax.random.key(0)
    )
    (whole, metrics), (parts, metrics_of_parts) = step(1), step(4)
    for name, value in metrics.items():
        np.testing.assert_allclose(metrics_of_parts[name], value, rtol=1e-4)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5)
    jax.tree.map(close, whole.params, parts.params)


MESHES = [{}, {"fsdp": 4, "data": 1}, {"fsdp": 2, "model": 2}, {"sequence": 2}]


@pytest.mark.parametrize("sizes", MESHES)
def test_any_mesh_trains_like_one_device(sizes):
    mesh = sharding.make_mesh(**sizes)
    shardings = sharding.state_shardings(
        mesh, jax.eval_shape(jitted()[0], jax.random.key(0)), TransformerConfig.rules
    )
    (one, losses_one), (four, losses_four) = train(5), train(5, mesh, shardings)
    np.testing.assert_allclose(losses_one, losses_four, rtol=1e-4)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-3), one.params, four.params)
    assert jax.tree.map(lambda x: x.sharding, four) == shardings  # and the state stays where it was


def test_learning_rate_warms_up_and_decays():
    config = OptimizerConfig(
        initial_learning_rate=1e-5, learning_rate=1e-2, final_learning_rate=1e-4, warmup_steps=10
    )
    schedule = learning_rate(config, 100)
    np.testing.assert_allclose(
        [schedule(0), schedule(10), schedule(100)], [1e-5, 1e-2, 1e-4], rtol=1e-4
    )
    with pytest.raises(UserError, match=r"^warmup_steps=10 must be fewer than steps=10"):
        learning_rate(config, 10)


def test_weight_decay_spares_everything_but_matrices():
    optimizer = make_optimizer(
        OptimizerConfig(initial_learning_rate=1.0, learning_rate=1.0, weight_decay=0.1,
                        warmup_steps=1), 10
    )  # fmt: skip
    params = {
        "dense": {"kernel": jnp.ones(2), "bias": jnp.ones(2)},
        "embed": {"embedding": jnp.ones(2)},
    }
    updates, _ = optimizer.update(
        jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
    )
    np.testing.assert_allclose(updates["dense"]["kernel"], -0.1, rtol=1e-5)
    assert not updates["dense"]["bias"].any() and not updates["embed"]["embedding"].any()


def test_gradients_are_clipped():
    """Adam's first step does not depend on the gradient's size, but its moments do."""
    optimizer = make_optimizer(OptimizerConfig(max_grad_norm=2.0), 1000)
    params = {"kernel": jnp.zeros(4)}

    def second_update(size):
        state = optimizer.init(params)
        for gradient in (jnp.full(4, size), jnp.array([0.1, -0.2, 0.3, 0.0])):
            updates, state = optimizer.update({"kernel": gradient}, state, params)
        return updates["kernel"]

    np.testing.assert_allclose(second_update(1e3), second_update(1.0), rtol=1e-5)  # of norm 2
    assert not np.allclose(second_update(0.5), second_update(1.0), rtol=1e-2)  # not clipped
