"""A custom core: minGRU (Feng et al. 2024, arXiv:2410.01201), whose gates ignore the state.

So a whole window is computed by one associative scan, and a step by a few matrix products.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from ad_jax.models.base import CoreConfig


@dataclasses.dataclass(frozen=True)
class MinGRU(CoreConfig):
    """Shape of the core. The fields of ``CoreConfig`` are settings, too.

    Attributes:
      state: width of a layer's state.
      layers: number of layers.
    """

    recurrent = True  # it may remember more than ``context`` steps

    state: int = 128
    layers: int = 2

    def make_core(self) -> nn.Module:
        return Core(self)


class Core(nn.Module):
    """Computes whole windows, or the same step by step from ``initial_carry``."""

    config: MinGRU

    def setup(self):
        c = self.config
        self.gates = [nn.Dense(c.state) for _ in range(c.layers)]
        self.candidates = [nn.Dense(c.state) for _ in range(c.layers)]
        self.outs = [nn.Dense(c.width) for _ in range(c.layers)]
        self.norms = [nn.RMSNorm() for _ in range(c.layers)]

    def __call__(self, x_BxTxE: jax.Array, train: bool) -> jax.Array:
        for layer in range(self.config.layers):
            keep, new = self._gated(layer, x_BxTxE)
            join = lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1])
            _, state = jax.lax.associative_scan(join, (keep, new), axis=1)
            x_BxTxE = x_BxTxE + self.outs[layer](state)
        return x_BxTxE

    def step(self, carry: tuple, x_E: jax.Array) -> tuple[tuple, jax.Array]:
        states = []
        for layer, before in enumerate(carry):
            keep, new = self._gated(layer, x_E)
            states.append(keep * before + new)
            x_E = x_E + self.outs[layer](states[-1])
        return tuple(states), x_E

    def initial_carry(self) -> tuple:
        return tuple(jnp.zeros(self.config.state) for _ in range(self.config.layers))

    def _gated(self, layer: int, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = self.norms[layer](x)
        gate = nn.sigmoid(self.gates[layer](x))
        return 1 - gate, gate * self.candidates[layer](x)
