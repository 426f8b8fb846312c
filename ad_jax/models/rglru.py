"""A gated linear recurrence: the RG-LRU of Griffin (De et al., arXiv:2402.19427).

A layer's state decays by factors that depend on the layer's input alone, so the recurrence is
linear. A window is therefore one associative scan, in time linear in its length, and acting takes
the same time and memory at every step, however long an agent has acted. The convolution of Griffin
is left out: a token already holds the previous action and reward.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from ad_jax.distributed.sharding import FSDP
from ad_jax.models.base import DTYPES, SHARED_RULES, CoreConfig, Rules

_FORGETTING = 8.0  # c of the paper's equation 3
_KEPT = 0.9, 0.999  # initial range of the part of a state that a step keeps, gate open


@dataclasses.dataclass(frozen=True)
class RGLRUConfig(CoreConfig):
    """Shape of the core; a layer's state is as wide as a token.

    Attributes:
      num_layers: blocks, each of a recurrence and a feed-forward layer.
      mlp_width: hidden width of the feed-forward layers.
    """

    rules: ClassVar[Rules] = (
        (r"blocks_\d+/(enter|gates|gate|leave|up|down)/kernel$", (FSDP, None)),
        (r"/forgetting$", ()),
        *SHARED_RULES,
    )
    recurrent: ClassVar[bool] = True

    num_layers: int = 4
    mlp_width: int = 256

    def make_core(self) -> nn.Module:
        return RGLRU(self)


class Block(nn.Module):
    """A gated recurrence and a feed-forward layer, each with a residual connection."""

    config: RGLRUConfig

    def setup(self):
        c, dtype = self.config, DTYPES[self.config.dtype]
        dense = lambda width: nn.Dense(width, dtype=dtype)
        self.enter, self.gate, self.leave = (dense(c.width) for _ in range(3))
        self.gates = dense(2 * c.width)
        self.up, self.down = dense(c.mlp_width), dense(c.width)
        self.norm, self.norm_mlp = (nn.RMSNorm(dtype=dtype) for _ in range(2))
        self.forgetting = self.param("forgetting", _init_forgetting, (c.width,))

    def __call__(self, x_BxTxE):
        y = self.norm(x_BxTxE)
        kept, new = self._recurrence(y)
        join = lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1])
        _, state = jax.lax.associative_scan(join, (kept, new), axis=1)
        return self._residual(x_BxTxE, y, state)

    def step(self, state_E, x_E):
        y = self.norm(x_E)
        kept, new = self._recurrence(y)
        state_E = kept * state_E + new
        return state_E, self._residual(x_E, y, state_E)

    def _recurrence(self, y):
        """(a, b) of state ← a · state + b (equations 1 to 4), float32."""
        forget, take = jnp.split(nn.sigmoid(self.gates(y).astype(jnp.float32)), 2, -1)
        log_kept = -_FORGETTING * forget * nn.softplus(self.forgetting)
        scale = jnp.sqrt(-jnp.expm1(2 * log_kept))  # so that the state keeps its size
        return jnp.exp(log_kept), scale * take * self.enter(y).astype(jnp.float32)

    def _residual(self, x, y, state):
        x += self.leave(nn.gelu(self.gate(y)) * state.astype(y.dtype))
        return x + self.down(nn.gelu(self.up(self.norm_mlp(x))))


def _init_forgetting(key, shape):
    """So that a state keeps a part drawn uniformly from ``_KEPT`` where the forget gate is 1."""
    kept = jax.random.uniform(key, shape, minval=_KEPT[0], maxval=_KEPT[1])
    return jnp.log(jnp.expm1(-jnp.log(kept) / _FORGETTING))


class RGLRU(nn.Module):
    """Blocks of recurrences; a core, see ``CoreConfig.make_core``."""

    config: RGLRUConfig

    def setup(self):
        self.blocks = [Block(self.config) for _ in range(self.config.num_layers)]
        self.norm = nn.RMSNorm(dtype=DTYPES[self.config.dtype])

    def __call__(self, x_BxTxE, train: bool):
        del train  # nothing is dropped
        for block in self.blocks:
            x_BxTxE = block(x_BxTxE)
        return self.norm(x_BxTxE)

    def step(self, carry, x_E):
        states = []
        for block, state_E in zip(self.blocks, carry, strict=True):
            state_E, x_E = block.step(state_E, x_E)
            states.append(state_E)
        return tuple(states), self.norm(x_E)

    @nn.nowrap
    def initial_carry(self):
        """The state of each layer, float32 [width]."""
        return (jnp.zeros(self.config.width),) * self.config.num_layers
