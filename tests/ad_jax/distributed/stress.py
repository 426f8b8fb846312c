"""Thousands of sharded training steps on a split CPU, dispatched as fast as possible."""

import jax
import jax.numpy as jnp

from ad_jax.distributed import processes, sharding

STEPS = 3000
processes.split_cpu()
mesh = sharding.make_mesh()
assert mesh.size > 1, "the CPU was not split"


def loss(weights, x):
    for weight in weights:
        x = jnp.tanh(x @ weight)
    return (x**2).mean()


def step(weights, x):
    value, gradient = jax.value_and_grad(loss)(weights, x)
    return jax.tree.map(lambda w, g: w - 0.01 * g, weights, gradient), value


weights = sharding.put(
    [jnp.full((256, 256), 0.01 * i) for i in (1, 2, 3)], sharding.replicated(mesh)
)
batch = sharding.put(jnp.ones((256, 256)), sharding.batch_sharding(mesh))
step = sharding.jit_on_mesh(mesh, step, donate_argnums=0)
for _ in range(STEPS):
    weights, value = step(weights, batch)
print(f"{STEPS} steps, loss {float(value):.3f}")
