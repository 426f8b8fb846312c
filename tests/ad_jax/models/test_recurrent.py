import re

import flax.linen as nn
import jax
import numpy as np
import pytest

from ad_jax.actions import Actions
from ad_jax.distributed import sharding
from ad_jax.errors import UserError
from ad_jax.models.base import SequenceModel
from ad_jax.models.gru import GRUConfig
from ad_jax.models.lstm import LSTMConfig
from ad_jax.models.recurrent import recur
from tests.ad_jax.models.test_transformer import GRID, spread, window

SMALL = dict(width=8, hidden=12, mlp_width=10, context=12)


CORES = {"lstm": LSTMConfig, "gru": GRUConfig}


def make(space=GRID, extra_outputs=0, core="lstm", **changes):
    return SequenceModel(
        CORES[core](**SMALL, **changes), space, Actions.discrete(5), extra_outputs=extra_outputs
    )


@pytest.mark.parametrize(
    ("core", "changes"),
    [("lstm", {}), ("lstm", {"lstm_layers": 2}), ("gru", {"gru_layers": 2}),
     ("lstm", {"dtype": "bfloat16"}), ("gru", {"dtype": "bfloat16"})],
)  # fmt: skip
def test_steps_one_by_one_equal_the_whole_pass(core, changes):
    """Also beyond the context: the state forgets nothing there, and stays float32."""
    model = make(core=core, **changes)
    inputs = window(batch=2, length=30)
    params = spread(model.init(jax.random.key(0), *inputs))
    full = model.apply(params, *inputs)
    assert full.shape == (2, 30, 5)
    step = lambda memory, step: model.apply(params, memory, *step, method="step")
    for row in range(2):
        steps = jax.tree.map(lambda x, row=row: x[row], inputs)
        carry, logits = jax.lax.scan(step, model.initial_carry(), steps)
        np.testing.assert_allclose(logits, full[row], atol=1e-5)
        assert {x.dtype for x in jax.tree.leaves(carry)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("core", CORES)
def test_a_layer_and_its_gradients_are_those_of_the_cell_step_by_step(core):
    config = CORES[core](**SMALL)
    layer, x = nn.RNN(config.make_cell()), jax.random.normal(jax.random.key(1), (3, 20, 8))
    params = spread(layer.init(jax.random.key(0), x))
    carry = config.make_cell().initialize_carry(jax.random.key(0), (8,))
    weight = jax.random.normal(jax.random.key(2), (3, 20, 12))  # of each output in the loss
    ways = (
        lambda params, x: recur(config, params["params"]["cell"], carry, x),
        lambda params, x: layer.apply(params, x),
    )
    summed = lambda way: lambda params, x: (way(params, x) * weight).sum()
    got, want = ((way(params, x), jax.grad(summed(way), (0, 1))(params, x)) for way in ways)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, want)


def test_extra_outputs_follow_the_logits():
    inputs = window()
    model = make(extra_outputs=1)
    params = spread(model.init(jax.random.key(0), *inputs))
    assert model.apply(params, *inputs).shape == (3, 12, 6)


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 2, 2)])
def test_devices_sum_the_gradient_once_and_not_at_every_step(shape):
    """Oracle: the gradient of one device. No loop contains an all-reduce."""
    model, inputs = make(lstm_layers=2), window(batch=4)
    params = spread(model.init(jax.random.key(0), *inputs))
    gradient = jax.grad(lambda params, inputs: (model.apply(params, *inputs) ** 2).sum())
    want = gradient(params, inputs)
    mesh = sharding.make_mesh(*shape)
    shardings = sharding.state_shardings(mesh, params, LSTMConfig.rules)
    placed = sharding.put(inputs, sharding.batch_sharding(mesh))
    step = jax.jit(sharding.on_mesh(mesh, gradient), out_shardings=shardings)
    step = step.lower(jax.device_put(params, shardings), placed).compile()
    got = step(jax.device_put(params, shardings), placed)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, want)
    computations = step.as_text().split("\n\n")
    loops = set(re.findall(r"body=(%[^,)\s]+)", step.as_text()))
    summed = [c for c in computations if "all-reduce(" in c]
    assert loops and summed and not [c for c in summed if c.split()[0] in loops]


def test_settings_that_do_not_exist():
    with pytest.raises(UserError, match=r"^mask='all'"):
        LSTMConfig(mask="all")
