"""What recurrent cores share: layers of cells, then a small MLP."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
from jax.sharding import PartitionSpec

from ad_jax.distributed.sharding import WINDOWS, traced_mesh
from ad_jax.models.base import DTYPES, CoreConfig


@dataclasses.dataclass(frozen=True)
class RecurrentConfig(CoreConfig):
    """Shape of a recurrent core.

    Attributes:
      hidden: width of a layer's state.
      mlp_width: width of both layers between the cells and the logits.
    """

    recurrent: ClassVar[bool] = True

    hidden: int = 512
    mlp_width: int = 256

    @property
    def num_cells(self) -> int:
        """Layers of cells, one above the other."""
        raise NotImplementedError

    def make_cell(self) -> nn.RNNCellBase:
        """The cell of one layer."""
        raise NotImplementedError

    def make_core(self) -> nn.Module:
        return RecurrentCore(self)


class RecurrentCore(nn.Module):
    """Layers of cells, each over the outputs of the one below, and a ReLU MLP of two layers."""

    config: RecurrentConfig

    def setup(self):
        c, dtype = self.config, DTYPES[self.config.dtype]
        self.layers = [nn.RNN(c.make_cell()) for _ in range(c.num_cells)]
        self.mlp = [nn.Dense(c.mlp_width, dtype=dtype) for _ in range(2)]

    def __call__(self, x_BxTxE, train: bool):
        del train  # nothing is dropped
        for layer in self.layers:
            x_BxTxE = self._over_time(layer, x_BxTxE)
        return self._features(x_BxTxE)

    def _over_time(self, layer: nn.RNN, x_BxTxE: jax.Array) -> jax.Array:
        """A layer; each device of the mesh that it is traced for passes over windows of its own.

        The gradient of its weights is then summed over the devices once. Left to the compiler, it
        would be at every step, for it is summed over the steps in a loop.
        """
        mesh = traced_mesh()
        if mesh is None or self.is_initializing():
            return layer(x_BxTxE)
        alone, variables = layer.unbind()
        windows = PartitionSpec(WINDOWS)
        return jax.shard_map(
            alone.apply, mesh=mesh, in_specs=(PartitionSpec(), windows), out_specs=windows,
            check_vma=False,
        )(variables, x_BxTxE)  # fmt: skip

    def step(self, carry, x_E):
        carries = []
        for layer, inner in zip(self.layers, carry, strict=True):
            inner, x_E = layer.cell(inner, x_E)
            carries.append(inner)
        return tuple(carries), self._features(x_E)

    @nn.nowrap
    def initial_carry(self):
        """For each layer the carry of its cell, float32 whatever the dtype of the computation."""
        cell = self.config.make_cell()
        carry = cell.initialize_carry(jax.random.key(0), (self.config.width,))
        return (carry,) * self.config.num_cells

    def _features(self, x):
        for layer in self.mlp:
            x = nn.relu(layer(x))
        return x
