"""What recurrent cores share: layers of cells, then a small MLP."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
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
    gates: ClassVar[str]  # names of the cell's weights, each after "i" or "h"

    hidden: int = 512
    mlp_width: int = 256

    @property
    def num_cells(self) -> int:
        """Layers of cells, one above the other."""
        raise NotImplementedError

    def make_cell(self) -> nn.RNNCellBase:
        """The cell of one layer, for one step."""
        raise NotImplementedError

    @staticmethod
    def advance(of_input, of_carry, carry):
        """The cell's step, given the products with its input and its hidden state; see ``recur``.

        Args:
          of_input, of_carry: [..., gates × H], in the order of ``gates``, with the biases.
          carry: of the cell; its last leaf is the hidden state, [..., H].

        Returns:
          The next carry.
        """
        raise NotImplementedError

    def make_core(self) -> nn.Module:
        return RecurrentCore(self)


def recur(
    config: RecurrentConfig, cell: Mapping[str, Any], carry: Any, x_BxTxE: jax.Array
) -> jax.Array:
    """A layer of cells over windows.

    It gives the same as ``nn.RNN`` of the cell, but only the product with the hidden state stays in
    the loop. The product with the inputs and the gradients of all weights are one large product
    each, instead of one for every step.

    Args:
      config: config of the core.
      cell: parameters of the cell.
      carry: initial carry of each window.
      x_BxTxE: inputs of the layer.

    Returns:
      The hidden states, float32 [B, T, H].
    """
    dtype = DTYPES[config.dtype]

    def weights(kind: str) -> tuple[jax.Array, jax.Array]:
        parts = [cell[f"{kind}{gate}"] for gate in config.gates]
        kernel = jnp.concatenate([part["kernel"] for part in parts], -1)
        none = jnp.zeros(config.hidden)
        bias = jnp.concatenate([part.get("bias", none) for part in parts])
        return kernel.astype(dtype), bias.astype(dtype)

    kernel, bias = weights("i")
    of_input = (x_BxTxE.astype(dtype) @ kernel + bias).swapaxes(0, 1)
    carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(x_BxTxE), *x.shape)), carry)
    return _recur(config.advance, *weights("h"), of_input, carry).swapaxes(0, 1)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _recur(advance: Callable, kernel_HxG, bias_G, of_input_TxBxG, carry):
    """The hidden states [T, B, H]."""
    return _forward(advance, kernel_HxG, bias_G, of_input_TxBxG, carry)[0]


def _forward(advance, kernel_HxG, bias_G, of_input_TxBxG, carry):
    def step(carry, of_input_BxG):
        hidden_BxH = _hidden(carry).astype(kernel_HxG.dtype)
        of_carry_BxG = hidden_BxH @ kernel_HxG + bias_G
        following, pull = jax.vjp(advance, of_input_BxG, of_carry_BxG, carry)
        return following, (_hidden(following), hidden_BxH, pull)

    _, (hidden_TxBxH, before_TxBxH, pulls) = jax.lax.scan(step, carry, of_input_TxBxG)
    return hidden_TxBxH, (kernel_HxG, before_TxBxH, pulls, jax.tree.map(jnp.zeros_like, carry))


def _backward(advance, residuals, d_hidden_TxBxH):
    kernel_HxG, before_TxBxH, pulls, zero = residuals

    def step(d_carry, given):
        d_hidden_BxH, pull = given
        d_input_BxG, d_of_carry_BxG, d_carry = pull(_onto_hidden(d_carry, d_hidden_BxH))
        back = (d_of_carry_BxG @ kernel_HxG.T).astype(d_hidden_BxH.dtype)
        return _onto_hidden(d_carry, back), (d_input_BxG, d_of_carry_BxG)

    given = d_hidden_TxBxH, pulls
    d_carry, (d_input, d_of_carry) = jax.lax.scan(step, zero, given, reverse=True)
    d_kernel = jnp.einsum("tbh,tbg->hg", before_TxBxH, d_of_carry)
    return d_kernel, d_of_carry.sum((0, 1)), d_input, d_carry


_recur.defvjp(_forward, _backward)


def _hidden(carry: Any) -> jax.Array:
    return jax.tree.leaves(carry)[-1]


def _onto_hidden(carry: Any, more: jax.Array) -> Any:
    *others, hidden = jax.tree.leaves(carry)
    return jax.tree.unflatten(jax.tree.structure(carry), [*others, hidden + more])


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
        """Applies a layer to windows; on a mesh, each device passes over its own windows.

        Weights are gathered before the loop, and their gradient is summed over the devices after
        it. If the weights are sharded, the compiler would otherwise do both at every step.
        """
        if self.is_initializing():
            return layer(x_BxTxE)
        cell, over_time = layer.variables["params"]["cell"], partial(recur, self.config)
        carry = layer.cell.initialize_carry(jax.random.key(0), (self.config.width,))
        if (mesh := traced_mesh()) is not None:
            everywhere, windows = PartitionSpec(), PartitionSpec(WINDOWS)
            over_time = jax.shard_map(
                over_time, mesh=mesh, in_specs=(everywhere, everywhere, windows),
                out_specs=windows, check_vma=False,
            )  # fmt: skip
        return over_time(cell, carry, x_BxTxE)

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
