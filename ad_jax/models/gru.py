"""A GRU (Cho et al., arXiv:1406.1078): a lighter recurrent core than the LSTM."""

import dataclasses
from typing import ClassVar

import flax.linen as nn

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

    gru_layers: int = 1

    @property
    def num_cells(self) -> int:
        return self.gru_layers

    def make_cell(self) -> nn.RNNCellBase:
        return nn.GRUCell(self.hidden, dtype=DTYPES[self.dtype])
