"""The causal transformer, the paper's distilled model (section 3 and Table 3)."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ad_jax.distributed.sharding import FSDP, MODEL, SEQUENCE, gathering, shard_heads, shard_steps
from ad_jax.errors import UserError
from ad_jax.models.attention import IMPLEMENTATIONS, attention, cached_attention, rotate
from ad_jax.models.base import DTYPES, SHARED_RULES, CoreConfig, Rules
from ad_jax.models.dense import dot_general

POSITIONS = ("rotary", "learned")
NORMS = ("pre", "post")


@dataclasses.dataclass(frozen=True)
class TransformerConfig(CoreConfig):
    """Shape and regularisation of the transformer.

    Attributes:
      num_layers: number of blocks.
      num_heads: attention heads of each block; they must divide the width.
      mlp_width: hidden width of the feed-forward layers.
      positions: "rotary", or "learned" (the paper's).
      norm: "pre", or "post" (the paper's).
      dropout: of embeddings and of each layer's output.
      attention_dropout: of attention weights.
      attention: how it is computed; see ``attention``.
      attention_chunk: queries that attention processes at once.
      attention_window: steps that a layer looks back, including the current one; 0 for the whole
        context. With a window, a layer gets information about earlier steps only through the
        layers below, and the cache stays exact however long an agent acts.
      remat: the backward pass recomputes each layer instead of storing its intermediate values.

    Raises:
      UserError: the sizes do not fit together, or a value is not one of those that are allowed.
    """

    rules: ClassVar[Rules] = (
        (r"blocks_\d+/qkv/kernel$", (FSDP, None, MODEL, None)),
        (r"blocks_\d+/qkv/bias$", (None, MODEL, None)),
        (r"blocks_\d+/out/kernel$", (MODEL, None, FSDP)),
        (r"blocks_\d+/up/kernel$", (FSDP, MODEL)),
        (r"blocks_\d+/up/bias$", (MODEL,)),
        (r"blocks_\d+/down/kernel$", (MODEL, FSDP)),
        *SHARED_RULES,
    )

    num_layers: int = 4
    num_heads: int = 4
    mlp_width: int = 256
    positions: str = "rotary"
    norm: str = "pre"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    attention: str = "auto"
    attention_chunk: int = 40
    attention_window: int = 0
    remat: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.width % self.num_heads or (self.width // self.num_heads) % 2:
            raise UserError(
                f"width={self.width} is not an even multiple of num_heads={self.num_heads}"
            )
        if not 0 <= self.attention_window <= self.context:
            raise UserError(
                f"attention_window={self.attention_window}: give the number of steps that a layer "
                f"looks back, at most context={self.context}, or 0 for all of them"
            )

    def choices(self) -> dict[str, tuple[str, ...]]:
        own = {"positions": POSITIONS, "norm": NORMS, "attention": IMPLEMENTATIONS}
        return super().choices() | own

    def check_sequence(self, mesh: Mapping[str, int]) -> None:
        parts, of_heads = mesh[SEQUENCE], mesh[SEQUENCE] * mesh[MODEL]
        if self.context % parts:
            raise UserError(
                f"context={self.context} is not a multiple of mesh.sequence={parts}, whose devices "
                "share the steps: change one of them"
            )
        if self.num_heads % of_heads:
            raise UserError(
                f"num_heads={self.num_heads} is not a multiple of mesh.sequence={parts} times "
                f"mesh.model={mesh[MODEL]}, whose devices share the heads: change one of them"
            )

    def make_core(self) -> nn.Module:
        return Transformer(self)

    @property
    def max_steps(self) -> int | None:
        return self.context if self.positions == "learned" else None

    def for_one_window(self) -> "TransformerConfig":
        # Accelerators' kernels are not made for single windows under vmap.
        return dataclasses.replace(self, attention="blocked")

    @property
    def cache_steps(self) -> int:
        """The steps that are remembered when acting."""
        return self.attention_window or self.context


class Cache(NamedTuple):
    """What the model remembers of the steps it has seen: a ring of ``cache_steps`` entries.

    Attributes:
      layers: for each layer, (keys, values): dtype [heads, cache_steps, head width] and
        [heads, head width, cache_steps].
      position: int32, the number of steps seen.
    """

    layers: tuple[tuple[jax.Array, jax.Array], ...]
    position: jax.Array


class Block(nn.Module):
    """Attention and feed-forward with residual connections."""

    config: TransformerConfig

    def setup(self):
        c, dtype = self.config, DTYPES[self.config.dtype]
        by_head = (3, c.num_heads, c.width // c.num_heads)
        self.qkv = nn.DenseGeneral(by_head, dtype=dtype, dot_general=gathering(None, None, MODEL))
        self.out = nn.DenseGeneral(
            c.width, axis=(-2, -1), dtype=dtype, dot_general=gathering(MODEL)
        )
        up = gathering(None, MODEL, product=dot_general)
        down = gathering(MODEL, product=dot_general)
        self.up = nn.Dense(c.mlp_width, dtype=dtype, dot_general=up)
        self.down = nn.Dense(c.width, dtype=dtype, dot_general=down)
        self.norm_attention = nn.LayerNorm(dtype=dtype)
        self.norm_mlp = nn.LayerNorm(dtype=dtype)
        self.drop = nn.Dropout(c.dropout)

    def __call__(self, x_BxTxE, train: bool):
        c = self.config

        def attend(x_BxTxE):
            q, k, v = self._project(x_BxTxE, jnp.arange(x_BxTxE.shape[1]))
            self.sow("intermediates", "queries_keys", (q, k))  # for analysis
            dropout = c.attention_dropout if train else 0.0
            key = self.make_rng("dropout") if dropout else None
            # Both are constrained; else the compiler could gather steps before the projections.
            attended = attention(
                *(shard_heads(shard_steps(x, MODEL)) for x in (q, k, v)), impl=c.attention,
                window=c.attention_window, chunk=c.attention_chunk, dropout=dropout, key=key,
            )  # fmt: skip
            return self.out(shard_steps(shard_heads(attended), MODEL))

        return self._residual(x_BxTxE, attend, train, shard_steps)

    def step(self, x_E, layer, position):
        """One step: writes its key and value over the oldest entry, then reads the ring."""
        keys, values = layer
        steps = self.config.cache_steps
        q, k, v = (p[0] for p in self._project(x_E[None], position[None]))
        slot = position % steps
        keys = jax.lax.dynamic_update_slice_in_dim(keys, k[:, None], slot, 1)
        values = jax.lax.dynamic_update_slice_in_dim(values, v[:, :, None], slot, 2)
        visible = jnp.arange(steps) <= position
        attend = lambda _: self.out(cached_attention(q, keys, values, visible))
        # Under vmap the first axis of the token is not that of the windows: nothing to shard.
        x_E = self._residual(x_E, attend, train=False, place=lambda x: x)
        return x_E, (keys, values)

    def _project(self, x, position):
        if self.config.norm == "pre":
            x = self.norm_attention(x)
        qk, v = jnp.split(self.qkv(x), [2], axis=-3)
        if self.config.positions == "rotary":
            qk = rotate(qk, position)
        # The gradient of a split is one concatenation; of indexing, it is sums of padded arrays.
        q, k = jnp.split(qk, 2, axis=-3)
        return tuple(x.squeeze(-3) for x in (q, k, v))

    def _residual(self, x, attend, train, place):
        """Both halves of a block; ``attend`` normalises its own input if norm is "pre".

        ``place`` constrains the sharding of the residual sums.
        """
        pre = self.config.norm == "pre"
        x = place(x + self.drop(attend(x), deterministic=not train))
        if not pre:
            x = self.norm_attention(x)
        h = self.down(nn.gelu(self.up(self.norm_mlp(x) if pre else x)))
        x = place(x + self.drop(h, deterministic=not train))
        return x if pre else self.norm_mlp(x)


class Transformer(nn.Module):
    """Blocks of causal attention; a core, see ``CoreConfig.make_core``."""

    config: TransformerConfig

    def setup(self):
        c = self.config
        if c.positions == "learned":
            self.positions = self.param(
                "positions", nn.initializers.normal(0.02), (c.context, c.width)
            )
        block = nn.remat(Block, static_argnums=2) if c.remat else Block  # of "train"
        self.blocks = [block(c) for _ in range(c.num_layers)]
        self.norm = nn.LayerNorm(dtype=DTYPES[c.dtype])
        self.drop = nn.Dropout(c.dropout)

    def __call__(self, x_BxTxE, train: bool):
        if self.config.positions == "learned":
            x_BxTxE += self.positions[: x_BxTxE.shape[1]].astype(x_BxTxE.dtype)
        x_BxTxE = shard_steps(self.drop(x_BxTxE, deterministic=not train))
        for block in self.blocks:
            x_BxTxE = block(x_BxTxE, train)
        return self._normed(x_BxTxE)

    def step(self, cache: Cache, x_E):
        if self.config.positions == "learned":
            x_E += self.positions[cache.position].astype(x_E.dtype)
        layers = []
        for block, layer in zip(self.blocks, cache.layers, strict=True):
            x_E, layer = block.step(x_E, layer, cache.position)
            layers.append(layer)
        return Cache(tuple(layers), cache.position + 1), self._normed(x_E)

    @nn.nowrap
    def initial_carry(self) -> Cache:
        """The cache of a model that has seen nothing."""
        c = self.config
        keys = jnp.zeros((c.num_heads, c.cache_steps, c.width // c.num_heads), DTYPES[c.dtype])
        layer = keys, keys.swapaxes(1, 2)
        return Cache((layer,) * c.num_layers, jnp.zeros((), jnp.int32))

    def _normed(self, x):
        return self.norm(x) if self.config.norm == "pre" else x
