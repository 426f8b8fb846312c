"""The causal transformer that is distilled into (paper, section 3 and Table 3)."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ad_jax.distributed.sharding import FSDP, MODEL, shard_batch
from ad_jax.errors import UserError
from ad_jax.models.attention import IMPLEMENTATIONS, attention, cached_attention, rotate
from ad_jax.models.images import ENCODERS
from ad_jax.models.tokens import MASKS, TransitionToken

# Where the parameters of a model live: the first pattern found in a parameter's path
# says over which mesh axis each of its axes is spread. What the optimiser keeps of a parameter
# lives where the parameter does.
SHARED = (
    (r"/head/kernel$", (FSDP, None)),
    (r"/embedding$|/positions$|embed/(reward|observation)/kernel$", (None, FSDP)),
    (r"/(bias|scale|mask|ns_coeffs)$|/ImageEncoder_\d+/", ()),
)
RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"blocks_\d+/qkv/kernel$", (FSDP, None, MODEL, None)),
    (r"blocks_\d+/qkv/bias$", (None, MODEL, None)),
    (r"blocks_\d+/out/kernel$", (MODEL, None, FSDP)),
    (r"blocks_\d+/up/kernel$", (FSDP, MODEL)),
    (r"blocks_\d+/up/bias$", (MODEL,)),
    (r"blocks_\d+/down/kernel$", (MODEL, FSDP)),
    *SHARED,
)

POSITIONS = ("rotary", "learned")
NORMS = ("pre", "post")
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Shape and regularisation of the model.

    Attributes:
      width: of a token.
      num_layers, num_heads: as they say; the heads divide the width.
      mlp_width: hidden width of the feed-forward layers.
      context: steps the model looks back, itself included.
      positions: "rotary", or "learned" (the paper's).
      norm: "pre", or "post" (the paper's).
      dropout: of embeddings and of each layer's output.
      attention_dropout: of attention weights.
      image_encoder: of pictures; see ImageEncoder.
      mask: what the input mask hides, "action" or "token"; see TransitionToken.
      mask_probability: of the input mask.
      dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
      attention: how it is computed; see ``attention``.
      attention_block: queries per block of attention.
      attention_window: steps that a layer looks back, its own included; 0 is the whole context.
        With one, a layer hears of earlier steps through those it sees, and the cache stays exact
        however long an agent acts.
      remat: the backward pass computes each layer again instead of storing what is inside it.
    """

    width: int = 64
    num_layers: int = 4
    num_heads: int = 4
    mlp_width: int = 256
    context: int = 80
    positions: str = "rotary"
    norm: str = "pre"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    image_encoder: str = "pooled"
    mask: str = "action"
    mask_probability: float = 0.0
    dtype: str = "float32"
    attention: str = "auto"
    attention_block: int = 40
    attention_window: int = 0
    remat: bool = False

    def __post_init__(self):
        choices = {
            "positions": POSITIONS,
            "norm": NORMS,
            "image_encoder": ENCODERS,
            "mask": MASKS,
            "dtype": tuple(DTYPES),
            "attention": IMPLEMENTATIONS,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"model.{name}={getattr(self, name)!r}: choose one of {allowed}")
        if self.width % self.num_heads or (self.width // self.num_heads) % 2:
            raise UserError(
                f"model.width={self.width} is not an even multiple of "
                f"model.num_heads={self.num_heads}"
            )
        if not 0 <= self.attention_window <= self.context:
            raise UserError(
                f"model.attention_window={self.attention_window}: give the steps that a layer "
                f"looks back, at most model.context={self.context}, or 0 for all of them"
            )

    @property
    def cache_steps(self) -> int:
        """The steps that are remembered when acting."""
        return self.attention_window or self.context


class Cache(NamedTuple):
    """What the model remembers of the steps it has seen: a ring of ``cache_steps`` entries.

    Attributes:
      layers: for each layer, (keys, values), each dtype [heads, cache_steps, head width].
      position: int32, the number of steps seen.
    """

    layers: tuple[tuple[jax.Array, jax.Array], ...]
    position: jax.Array


class Block(nn.Module):
    """Attention and feed-forward with residual connections."""

    config: TransformerConfig

    def setup(self):
        c, dtype = self.config, DTYPES[self.config.dtype]
        self.qkv = nn.DenseGeneral((3, c.num_heads, c.width // c.num_heads), dtype=dtype)
        self.out = nn.DenseGeneral(c.width, axis=(-2, -1), dtype=dtype)
        self.up = nn.Dense(c.mlp_width, dtype=dtype)
        self.down = nn.Dense(c.width, dtype=dtype)
        self.norm_attention = nn.LayerNorm(dtype=dtype)
        self.norm_mlp = nn.LayerNorm(dtype=dtype)
        self.drop = nn.Dropout(c.dropout)

    def __call__(self, x_BxTxE, train: bool):
        c = self.config

        def attend(x_BxTxE):
            q, k, v = self._project(x_BxTxE, jnp.arange(x_BxTxE.shape[1]))
            self.sow("intermediates", "queries_keys", (q, k))  # for whoever asks for them
            dropout = c.attention_dropout if train else 0.0
            key = self.make_rng("dropout") if dropout else None
            attended = attention(
                q, k, v, impl=c.attention, window=c.attention_window,
                block=c.attention_block, dropout=dropout, key=key,
            )  # fmt: skip
            return self.out(attended)

        return self._residual(x_BxTxE, attend, train)

    def decode(self, x_E, layer, position):
        """One step: writes its key and value over the oldest entry, then reads the ring."""
        keys, values = layer
        steps = self.config.cache_steps
        q, k, v = (p[0] for p in self._project(x_E[None], position[None]))
        slot = position % steps
        keys = jax.lax.dynamic_update_slice_in_dim(keys, k[:, None], slot, 1)
        values = jax.lax.dynamic_update_slice_in_dim(values, v[:, None], slot, 1)
        visible = jnp.arange(steps) <= position
        x_E = self._residual(
            x_E, lambda _: self.out(cached_attention(q, keys, values, visible)), train=False
        )
        return x_E, (keys, values)

    def _project(self, x, position):
        if self.config.norm == "pre":
            x = self.norm_attention(x)
        q, k, v = jnp.moveaxis(self.qkv(x), -3, 0)
        if self.config.positions == "rotary":
            q, k = rotate(q, position), rotate(k, position)
        return q, k, v

    def _residual(self, x, attend, train):
        """Both halves of a block; ``attend`` normalises its own input where norm is "pre"."""
        pre = self.config.norm == "pre"
        x = shard_batch(x + self.drop(attend(x), deterministic=not train))
        if not pre:
            x = self.norm_attention(x)
        h = self.down(nn.gelu(self.up(self.norm_mlp(x) if pre else x)))
        x = shard_batch(x + self.drop(h, deterministic=not train))
        return x if pre else self.norm_mlp(x)


class Transformer(nn.Module):
    """Predicts the action at every step of a window from that step and all before it.

    Attributes:
      config: see TransformerConfig.
      space: observation space of a single observation.
      num_actions: size of the action space.
      render: draws the picture of an observation, where the observation stands for one: then the
        model sees nothing but the picture.
      critic: the logits are followed by one more output, the value of the state.
    """

    config: TransformerConfig
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
        if c.positions == "learned":
            self.positions = self.param(
                "positions", nn.initializers.normal(0.02), (c.context, c.width)
            )
        block = nn.remat(Block, static_argnums=2) if c.remat else Block  # of "train"
        self.blocks = [block(c) for _ in range(c.num_layers)]
        self.norm = nn.LayerNorm(dtype=dtype)
        # Small, so that training begins at the entropy of the uniform policy.
        self.head = nn.Dense(
            self.num_actions + self.critic,
            dtype=jnp.float32,
            kernel_init=nn.initializers.normal(0.02),
        )
        self.drop = nn.Dropout(c.dropout)

    def __call__(
        self, observation, previous_action, previous_reward, is_first, *, train: bool = False
    ) -> jax.Array:
        """Logits for windows.

        Args:
          observation: [B, T, *space.shape], T at most the context.
          previous_action: int32 [B, T]; the number of actions where there was none.
          previous_reward: float32 [B, T].
          is_first: bool [B, T].
          train: drop and mask, with random keys "dropout" and "mask".

        Returns:
          float32 [B, T, actions], or one more with a critic.
        """
        x_BxTxE = self.embed(observation, previous_action, previous_reward, is_first, train=train)
        if self.config.positions == "learned":
            x_BxTxE += self.positions[: x_BxTxE.shape[1]].astype(x_BxTxE.dtype)
        x_BxTxE = shard_batch(self.drop(x_BxTxE, deterministic=not train))
        for block in self.blocks:
            x_BxTxE = block(x_BxTxE, train)
        return self._logits(x_BxTxE)

    def decode(self, cache: Cache, observation, previous_action, previous_reward, is_first):
        """Logits for the next step of one environment.

        Equal to the whole pass over all steps seen, until they are more than the context; from
        then on the oldest step is dropped, though what later steps read from it remains. With a
        window it is equal to the whole pass however many steps there are. With learned
        positions there is no such continuation: at most ``context`` steps.

        Args:
          cache: from ``initial_carry`` or the last call.
          observation: [*space.shape]; the others as in ``__call__``, without axes.

        Returns:
          (new cache, logits float32 [actions]).
        """
        x_E = self.embed(observation, previous_action, previous_reward, is_first, train=False)
        if self.config.positions == "learned":
            x_E += self.positions[cache.position].astype(x_E.dtype)
        layers = []
        for block, layer in zip(self.blocks, cache.layers, strict=True):
            x_E, layer = block.decode(x_E, layer, cache.position)
            layers.append(layer)
        return Cache(tuple(layers), cache.position + 1), self._logits(x_E)

    def initial_carry(self) -> Cache:
        """The cache of a model that has seen nothing."""
        c = self.config
        shape = (c.num_heads, c.cache_steps, c.width // c.num_heads)
        zeros = jnp.zeros(shape, DTYPES[c.dtype])
        return Cache(((zeros, zeros),) * c.num_layers, jnp.zeros((), jnp.int32))

    def _logits(self, x):
        return self.head(self.norm(x) if self.config.norm == "pre" else x)
