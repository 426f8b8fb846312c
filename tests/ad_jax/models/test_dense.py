"""The hand-written gradient equals the one from automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ad_jax.models import dense

LAST_BY_FIRST = lambda x: (((x.ndim - 1,), (0,)), ((), ()))


@pytest.mark.parametrize("lead", [(), (7,), (3, 5)])
@pytest.mark.parametrize(("inputs", "outputs"), [(4, 12), (12, 4), (6, 6)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradients_are_those_of_autodiff(lead, inputs, outputs, dtype):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (*lead, inputs), dtype)
    kernel = jax.random.normal(keys[1], (inputs, outputs), dtype)
    weights = jax.random.normal(keys[2], (*lead, outputs))

    def gradients(product):
        loss = lambda x, kernel: (product(x, kernel, LAST_BY_FIRST(x)) * weights).sum()
        return jax.jit(jax.value_and_grad(loss, (0, 1)))(x, kernel)

    got, want = gradients(dense.dot_general), gradients(jax.lax.dot_general)
    tolerance = 1e-5 if dtype == jnp.float32 else 3e-2
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_allclose(
            np.asarray(one, np.float32),
            np.asarray(other, np.float32),
            rtol=tolerance,
            atol=tolerance,
        )


def test_elsewhere_than_on_a_cpu_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(dense, "traced_platform", lambda: "gpu")
    x, kernel = jnp.ones((3, 4)), jnp.ones((4, 2))
    program = lambda f: str(jax.make_jaxpr(lambda x, k: f(x, k, LAST_BY_FIRST(x)))(x, kernel))
    assert program(dense.dot_general) == program(jax.lax.dot_general)
    monkeypatch.undo()
    assert program(dense.dot_general) != program(jax.lax.dot_general)
