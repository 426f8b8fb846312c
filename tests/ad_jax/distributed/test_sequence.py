"""Windows whose steps are sharded: the same gradients, and no device holds a whole window."""

import re

import jax
import numpy as np
import pytest

from ad_jax.actions import Actions
from ad_jax.distributed import sharding
from ad_jax.errors import UserError
from ad_jax.methods import ad
from ad_jax.methods.train_state import INPUTS
from ad_jax.models import CORES
from ad_jax.models.base import SequenceModel
from ad_jax.models.transformer import TransformerConfig
from benchmarks import programs
from tests.ad_jax.models.test_transformer import GRID, spread, window

# Devices add float32 numbers in another order. The loss is near 1.6, the largest entries of the
# gradients are near 1.
BOUND_OF_LOSS, BOUND_OF_GRADIENTS = 1e-5, 1e-5
MESHES = [
    {"sequence": 4}, {"sequence": 2, "data": 2}, {"sequence": 2, "fsdp": 2},
    {"sequence": 2, "model": 2},
]  # fmt: skip


def make(**changes):
    sizes = dict(width=16, num_layers=2, num_heads=4, mlp_width=32, context=12, attention_chunk=5)
    return SequenceModel(TransformerConfig(**{**sizes, **changes}), GRID, Actions.discrete(5))


def batch_of(model, size):
    inputs = dict(zip(INPUTS, window(batch=size, length=model.config.context), strict=True))
    action = np.random.default_rng(1).integers(0, 5, inputs["previous_action"].shape)
    return {**inputs, "action": action.astype(np.int32)}


def gradients(model):
    """A function of parameters, batch and key: ((loss, metrics), gradients)."""
    loss = lambda params, batch, key: ad.distillation_loss(model, params, batch, key)
    return jax.value_and_grad(loss, has_aux=True)


def on_mesh(model, params, batch, sizes):
    """(``gradients``, jitted for a mesh; its arguments, sharded over the mesh)."""
    mesh = sharding.make_mesh(**{"data": 1, **sizes})
    shardings = sharding.state_shardings(mesh, params, model.config.rules)
    whole = sharding.replicated(mesh)
    function = sharding.on_mesh(mesh, gradients(model))
    step = jax.jit(function, out_shardings=((whole, whole), shardings))
    place = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    put = place if isinstance(jax.tree.leaves(params)[0], jax.ShapeDtypeStruct) else jax.device_put
    windows = jax.tree.map(lambda x: put(x, sharding.batch_sharding(mesh)), batch)
    return step, (jax.tree.map(put, params, shardings), windows, jax.random.key(3))


@pytest.mark.parametrize("sizes", MESHES, ids=str)
def test_loss_and_gradients_are_those_of_one_device(sizes):
    """Also with dropout and masks, and with positions, which count from the window's start."""
    model = make(dropout=0.1, attention_dropout=0.1, mask_probability=0.2, attention_window=7)
    batch = batch_of(model, 4)
    params = spread(jax.jit(model.init)(jax.random.key(0), *(batch[name] for name in INPUTS)))
    (want, _), want_gradients = jax.jit(gradients(model))(params, batch, jax.random.key(3))
    step, arguments = on_mesh(model, params, batch, sizes)
    (loss, _), found = step(*arguments)
    assert float(loss) == pytest.approx(float(want), abs=BOUND_OF_LOSS)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=BOUND_OF_GRADIENTS)
    jax.tree.map(close, want_gradients, found)


def arrays(program):
    """The shapes of the results of all instructions of a compiled program."""
    return {tuple(map(int, d.split(","))) for d in re.findall(r"\w\d+\[([\d,]+)\]", program)}


@pytest.mark.parametrize("sizes", MESHES, ids=str)
def test_no_device_ever_holds_the_whole_of_anything(sizes):
    """Looks for whole shapes in the program compiled for each of four devices; all sizes differ."""
    batch, steps, heads, width, hidden = 4, 48, 4, 40, 136
    model = make(
        width=width, num_layers=3, num_heads=heads, mlp_width=hidden, context=steps,
        attention_chunk=12, remat=True,
    )  # fmt: skip
    windows = batch_of(model, batch)
    params = jax.eval_shape(
        lambda: model.init(jax.random.key(0), *(windows[name] for name in INPUTS))
    )
    step, arguments = on_mesh(model, params, windows, sizes)
    program = step.lower(*arguments).compile().as_text()
    found = arrays(program)
    own_batch = batch // (sizes.get("data", 1) * sizes.get("fsdp", 1))
    own_steps = steps // sizes["sequence"]
    own_heads = heads // (sizes["sequence"] * sizes.get("model", 1))
    own_hidden = hidden // sizes.get("model", 1)
    # The largest array is a device's share of the hidden units, of the projections of its steps or
    # of the scores of a chunk of queries, or it is a matrix of one layer.
    fair = max(
        own_batch * own_steps * own_hidden,
        own_batch * own_steps * 3 * width,
        own_batch * own_heads * 12 * steps,
        width * max(own_hidden, 3 * width),
    )
    largest = max(found, key=np.prod)
    assert np.prod(largest) <= fair, largest
    assert not [shape for shape in found if shape[-2:] == (steps, steps)]  # all scores
    activations = {(batch, steps, width), (own_batch, steps, width), (batch, own_steps, width)}
    assert not found & (activations - {(own_batch, own_steps, width)})


def test_heads_are_exchanged_and_not_gathered():
    """One all-to-all each for queries, keys, values and the result, forward and backward."""
    model = make(width=40, num_layers=1, context=48, mlp_width=136)
    windows = batch_of(model, 4)
    params = jax.eval_shape(
        lambda: model.init(jax.random.key(0), *(windows[name] for name in INPUTS))
    )
    step, arguments = on_mesh(model, params, windows, {"sequence": 4})
    sent = programs.collectives(step.lower(*arguments).compile().as_text())
    share = 4 * 4 * 12 * 40 / 2**20  # MiB of a device's steps of one of them
    assert sent["all-to-all"]["mib"] == pytest.approx(8 * share, rel=0.02)
    parameters = sum(x.size for x in jax.tree.leaves(params)) * 4 / 2**20
    assert sent["all-gather"]["mib"] < 2.1 * parameters  # forward and backward


def test_what_devices_can_not_share_is_refused():
    mesh = {"data": 1, "fsdp": 1, "model": 2, "sequence": 2}
    TransformerConfig(context=80, num_heads=4).check_sequence(mesh)
    with pytest.raises(UserError, match=r"^context=81 is not a multiple of mesh\.sequence=2"):
        TransformerConfig(context=81).check_sequence(mesh)
    with pytest.raises(UserError, match=r"^num_heads=2 is not a multiple .*mesh\.model=2"):
        TransformerConfig(num_heads=2).check_sequence(mesh)
    for core in CORES.keys() - {"transformer"}:
        CORES[core]().check_sequence({**mesh, "sequence": 1})
        with pytest.raises(UserError, match=r"^mesh\.sequence=2: .* one after the other: give 1"):
            CORES[core]().check_sequence(mesh)
