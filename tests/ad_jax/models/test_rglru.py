import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ad_jax.actions import Actions
from ad_jax.models.base import SequenceModel
from ad_jax.models.rglru import Block, RGLRUConfig
from tests.ad_jax.models.test_transformer import GRID, spread, window


def make(space=GRID, **changes):
    shape = dict(width=8, num_layers=2, mlp_width=10, context=12)
    return SequenceModel(RGLRUConfig(**shape, **changes), space, Actions.discrete(5))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_steps_one_by_one_equal_the_whole_pass(dtype):
    """Also beyond the context: the scan computes the same recurrence."""
    model, inputs = make(dtype=dtype), window(batch=2, length=30)
    params = spread(model.init(jax.random.key(0), *inputs))
    full = model.apply(params, *inputs)
    step = lambda memory, step: model.apply(params, memory, *step, method="step")
    for row in range(2):
        steps = jax.tree.map(lambda x, row=row: x[row], inputs)
        carry, logits = jax.lax.scan(step, model.initial_carry(), steps)
        np.testing.assert_allclose(logits, full[row], atol=1e-5 if dtype == "float32" else 0.05)
        assert {x.dtype for x in jax.tree.leaves(carry)} == {np.dtype(np.float32)}


def test_a_state_keeps_what_it_should_at_first():
    """With an open forget gate, 0.9 to 0.999 of it; and states are about as large as inputs."""
    config = RGLRUConfig(width=256, num_layers=1, mlp_width=8)
    block, x = Block(config), jax.random.normal(jax.random.key(1), (4, 2000, 256))
    params = block.init(jax.random.key(0), x)
    kept = jnp.exp(-8 * jax.nn.softplus(params["params"]["forgetting"]))
    assert 0.9 <= kept.min() < 0.91 and 0.998 < kept.max() <= 0.999
    decay, new = block.apply(params, x, method="_recurrence")
    sizes = jnp.sqrt(1 - decay**2)
    taken = new / sizes  # the gated input, before it is scaled
    state = jnp.zeros((4, 256))
    states = jax.lax.scan(
        lambda s, ab: (ab[0] * s + ab[1],) * 2, state, (decay.swapaxes(0, 1), new.swapaxes(0, 1))
    )[1]
    ratio = states[1000:].std() / taken.std()
    assert 0.9 < ratio < 1.2
