"""The matrix product of the widest linear layers, with a gradient that is fast on a CPU, too."""

from typing import Any

import jax
import jax.numpy as jnp

from ad_jax.distributed.sharding import traced_platform


def dot_general(x: jax.Array, kernel: jax.Array, dimension_numbers: Any, **options) -> jax.Array:
    """``jax.lax.dot_general`` for a linear map of the last axis, as ``flax.linen.Dense`` calls it.

    The gradient of the kernel is a sum over all windows and steps. XLA may compute it by
    contracting two arrays along their leading axes. On a CPU, this takes much longer than first
    transposing the narrower array. So on a CPU the transposition is explicit.

    Args:
      x: [..., inputs].
      kernel: [inputs, outputs].
      dimension_numbers: last axis of x, first one of kernel.
      **options: of ``jax.lax.dot_general``.
    """
    product = lambda x, kernel: jax.lax.dot_general(x, kernel, dimension_numbers, **options)
    if traced_platform() != "cpu":
        return product(x, kernel)

    @jax.custom_vjp
    def dense(x, kernel):
        return product(x, kernel)

    def backward(saved, gradient):
        x, kernel = saved
        of_x = jax.lax.dot_general(gradient, kernel.T, dimension_numbers, **options)
        return of_x, _sum_of_outer_products(x, gradient, **options)

    dense.defvjp(lambda x, kernel: (product(x, kernel), (x, kernel)), backward)
    return dense(x, kernel)


def _sum_of_outer_products(a: jax.Array, b: jax.Array, **options: Any) -> jax.Array:
    """[A, B] of [..., A] and [..., B]. The barriers keep XLA from undoing the transpositions."""
    if a.shape[-1] > b.shape[-1]:
        return jax.lax.optimization_barrier(_sum_of_outer_products(b, a, **options)).T
    lead = a.ndim - 1
    transposed = jax.lax.optimization_barrier(jnp.moveaxis(a, -1, 0))
    axes = tuple(range(1, lead + 1)), tuple(range(lead))
    return jax.lax.dot_general(transposed, b, (axes, ((), ())), **options)
