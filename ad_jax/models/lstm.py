"""The LSTM, for distillation in place of the transformer (paper, figure 14), and for RL²."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from ad_jax.distributed.sharding import FSDP
from ad_jax.models.base import DTYPES, SHARED_RULES, Rules
from ad_jax.models.recurrent import RecurrentConfig


@dataclasses.dataclass(frozen=True)
class LSTMConfig(RecurrentConfig):
    """Shape of the LSTM; the paper's has ``hidden`` 512 and an MLP of two layers of 256.

    Attributes:
      lstm_layers: layers of cells, one above the other.
    """

    # A layer needs all of its state at every step: "model" does not split it.
    rules: ClassVar[Rules] = (
        (r"/cell/[ih][ifgo]/kernel$|/mlp_\d+/kernel$", (FSDP, None)),
        *SHARED_RULES,
    )

    gates: ClassVar[str] = "ifgo"
    lstm_layers: int = 1

    @property
    def num_cells(self) -> int:
        return self.lstm_layers

    def make_cell(self) -> nn.RNNCellBase:
        return nn.OptimizedLSTMCell(self.hidden, dtype=DTYPES[self.dtype])

    @staticmethod
    def advance(of_input, of_carry, carry):
        i, f, g, o = jnp.split(of_input + of_carry, 4, -1)
        cell = nn.sigmoid(f) * carry[0] + nn.sigmoid(i) * jnp.tanh(g)
        return cell, nn.sigmoid(o) * jnp.tanh(cell)
