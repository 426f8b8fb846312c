"""A GRU (Cho et al., arXiv:1406.1078): a lighter recurrent core than the LSTM."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from ad_jax.distributed.sharding import FSDP
from ad_jax.models.base import DTYPES, SHARED_RULES, Rules
from ad_jax.models.recurrent import RecurrentConfig


@dataclasses.dataclass(frozen=True)
class GRUConfig(RecurrentConfig):
    """Shape of the GRU.

    Attributes:
      gru_layers: layers of cells, one above the other.
    """

    rules: ClassVar[Rules] = (
        (r"/cell/[ih][rzn]/kernel$|/mlp_\d+/kernel$", (FSDP, None)),
        *SHARED_RULES,
    )

    gates: ClassVar[str] = "rzn"
    gru_layers: int = 1

    @property
    def num_cells(self) -> int:
        return self.gru_layers

    def make_cell(self) -> nn.RNNCellBase:
        return nn.GRUCell(self.hidden, dtype=DTYPES[self.dtype])

    @staticmethod
    def advance(of_input, of_carry, carry):
        (xr, xz, xn), (hr, hz, hn) = (jnp.split(x, 3, -1) for x in (of_input, of_carry))
        z = nn.sigmoid(xz + hz)
        return (1.0 - z) * jnp.tanh(xn + nn.sigmoid(xr + hr) * hn) + z * carry
