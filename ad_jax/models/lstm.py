"""The LSTM that is distilled into instead of the transformer (paper, figure 14), or learns RL²."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from ad_jax.distributed.sharding import DATA, FSDP, traced_mesh
from ad_jax.errors import UserError
from ad_jax.models.images import ENCODERS
from ad_jax.models.tokens import MASKS, TransitionToken
from ad_jax.models.transformer import DTYPES, SHARED

# A layer of an LSTM needs all of its state at every step: "model" does not split it.
LSTM_RULES = (
    (r"/cell/[ih][ifgo]/kernel$|/mlp_\d+/kernel$", (FSDP, None)),
    *SHARED,
)


@dataclasses.dataclass(frozen=True)
class LSTMConfig:
    """Shape of the model; the paper's is ``hidden`` 512 and an MLP of twice 256.

    Attributes:
      width: of a token.
      lstm_layers: one above the other.
      hidden: width of a layer's state.
      mlp_width: width of both layers between the LSTM and the logits.
      context: steps of a training window; when acting, the state remembers what it likes.
      image_encoder: of pictures; see ImageEncoder.
      mask: what the input mask hides, "action" or "token"; see TransitionToken.
      mask_probability: of the input mask.
      dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
    """

    width: int = 64
    lstm_layers: int = 1
    hidden: int = 512
    mlp_width: int = 256
    context: int = 80
    image_encoder: str = "pooled"
    mask: str = "action"
    mask_probability: float = 0.0
    dtype: str = "float32"

    def __post_init__(self):
        choices = {"image_encoder": ENCODERS, "mask": MASKS, "dtype": tuple(DTYPES)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"model.{name}={getattr(self, name)!r}: choose one of {allowed}")


class LSTM(nn.Module):
    """Predicts the action at every step from that step and all before it, like ``Transformer``.

    Attributes:
      config: see LSTMConfig.
      space: observation space of a single observation.
      num_actions: size of the action space.
      render: as of ``Transformer``.
      critic: the logits are followed by one more output, the value of the state.
    """

    config: LSTMConfig
    space: Any
    num_actions: int
    render: Callable[[jax.Array], jax.Array] | None = None
    critic: bool = False

    def setup(self):
        c, dtype = self.config, DTYPES[self.config.dtype]
        self.embed = TransitionToken(
            self.space, self.num_actions, c.width, c.image_encoder, self.render,
            c.mask, c.mask_probability, dtype,
        )  # fmt: skip
        self.layers = [
            nn.RNN(nn.OptimizedLSTMCell(c.hidden, dtype=dtype)) for _ in range(c.lstm_layers)
        ]
        self.mlp = [nn.Dense(c.mlp_width, dtype=dtype) for _ in range(2)]
        # Small, so that training begins at the entropy of the uniform policy.
        self.head = nn.Dense(
            self.num_actions + self.critic,
            dtype=jnp.float32,
            kernel_init=nn.initializers.normal(0.02),
        )

    def __call__(
        self, observation, previous_action, previous_reward, is_first, *, train: bool = False
    ) -> jax.Array:
        """Logits for windows, from an empty memory; arguments and result as of ``Transformer``."""
        x_BxTxE = self.embed(observation, previous_action, previous_reward, is_first, train=train)
        for layer in self.layers:
            x_BxTxE = self._over_time(layer, x_BxTxE)
        return self._logits(x_BxTxE)

    def _over_time(self, layer: nn.RNN, x_BxTxE: jax.Array) -> jax.Array:
        """A layer; each device of the mesh that it is traced for passes over windows of its own.

        The gradient of its weights is then summed over the devices once. Left to the compiler, it
        would be at every step, for it is summed over the steps in a loop.
        """
        mesh = traced_mesh()
        if mesh is None or self.is_initializing():
            return layer(x_BxTxE)
        alone, variables = layer.unbind()
        windows = PartitionSpec((DATA, FSDP))
        return jax.shard_map(
            alone.apply, mesh=mesh, in_specs=(PartitionSpec(), windows), out_specs=windows,
            check_vma=False,
        )(variables, x_BxTxE)  # fmt: skip

    def decode(self, memory, observation, previous_action, previous_reward, is_first):
        """Logits for the next step of one environment.

        Equal to the whole pass over all steps seen, however many they are.

        Args:
          memory: from ``initial_carry`` or the last call.
          observation: [*space.shape]; the others as in ``__call__``, without axes.

        Returns:
          (new memory, logits float32 [actions], or one more with a critic).
        """
        x_E = self.embed(observation, previous_action, previous_reward, is_first, train=False)
        carries = []
        for layer, carry in zip(self.layers, memory, strict=True):
            carry, x_E = layer.cell(carry, x_E)
            carries.append(carry)
        return tuple(carries), self._logits(x_E)

    def initial_carry(self):
        """For each layer (cell state, hidden state), each dtype [hidden]."""
        zeros = jnp.zeros(self.config.hidden, DTYPES[self.config.dtype])
        return ((zeros, zeros),) * self.config.lstm_layers

    def _logits(self, x):
        for layer in self.mlp:
            x = nn.relu(layer(x))
        return self.head(x)
