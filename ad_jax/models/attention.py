"""Causal attention: over whole windows for training, over a cache for acting."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

IMPLEMENTATIONS = ("auto", "blocked", "xla", "cudnn")
_HIDDEN = -1e30


def attention(
    q_BxTxHxD, k_BxTxHxD, v_BxTxHxD, *,
    impl: str = "auto", window: int = 0, block: int, dropout: float = 0.0, key=None,
):  # fmt: skip
    """Causal softmax attention over whole windows.

    Args:
      q_BxTxHxD, k_BxTxHxD, v_BxTxHxD: queries, keys and values.
      impl: "blocked" (see ``blocked_attention``); "xla", JAX's own, which stores all scores;
        "cudnn", the flash attention of an NVIDIA GPU, for 16-bit floats without dropout; "auto",
        "cudnn" where it can run, else "blocked".
      window: steps that a query sees, its own included; 0 is all before it.
      block: queries per block, of "blocked".
      dropout: probability of dropping an attention weight, of "blocked".
      key: random key for the dropout, where there is any.

    Returns:
      [B, T, H, D], in the dtype of the values.
    """
    impl = choose(impl, jax.default_backend(), v_BxTxHxD.dtype, dropout)
    if impl == "blocked":
        return blocked_attention(
            q_BxTxHxD, k_BxTxHxD, v_BxTxHxD, window=window, block=block, dropout=dropout, key=key
        )
    seen = (window - 1, 0) if window else None
    return jax.nn.dot_product_attention(
        q_BxTxHxD, k_BxTxHxD, v_BxTxHxD,
        is_causal=True, local_window_size=seen, implementation=impl,
    )  # fmt: skip


def choose(impl: str, platform: str, dtype: jnp.dtype, dropout: float) -> str:
    """The implementation that can run; warns where it is not the one asked for."""
    can = {"blocked": True, "xla": not dropout}
    can["cudnn"] = platform == "gpu" and dtype.itemsize == 2 and not dropout
    if impl == "auto":
        return "cudnn" if can["cudnn"] else "blocked"
    if can[impl]:
        return impl
    warnings.warn(
        f"model.attention={impl!r} can't run here (platform {platform}, {dtype}, dropout "
        f"{dropout}): 'blocked' takes its place, which writes the scores of all queries to memory",
        stacklevel=2,
    )
    return "blocked"


def dense_attention(q_BxTxHxD, k_BxTxHxD, v_BxTxHxD, window: int = 0):
    """Causal softmax attention, the plain way; the oracle of the others. Float32 scores."""
    return _rows(0, 0, window, 0.0, q_BxTxHxD, k_BxTxHxD, v_BxTxHxD, None)


def blocked_attention(
    q_BxTxHxD, k_BxTxHxD, v_BxTxHxD, *,
    window: int = 0, block: int, dropout: float = 0.0, key=None,
):  # fmt: skip
    """Causal softmax attention, block by block of queries.

    A block of queries reads only keys that one of them sees, so half of the scores are never
    computed, or more where there is a window; they are recomputed in the backward pass, so they
    are never stored. Arguments as of ``attention``.
    """
    length = q_BxTxHxD.shape[1]
    blocks = []
    for i, begin in enumerate(range(0, length, block)):
        end = min(begin + block, length)
        first = max(0, begin - window + 1) if window else 0
        rows = jax.checkpoint(partial(_rows, begin, first, window, dropout))
        block_key = jax.random.fold_in(key, i) if dropout else None
        keys, values = k_BxTxHxD[:, first:end], v_BxTxHxD[:, first:end]
        blocks.append(rows(q_BxTxHxD[:, begin:end], keys, values, block_key))
    return jnp.concatenate(blocks, axis=1)


def _rows(begin, first, window, dropout, q_BxQxHxD, k_BxKxHxD, v_BxKxHxD, key):
    """Attention of queries at ``begin``, ``begin`` + 1, … to keys at ``first``, ``first`` + 1, …"""
    q_BxQxHxD = q_BxQxHxD * q_BxQxHxD.shape[-1] ** -0.5
    scores = jnp.einsum("bqhd,bkhd->bhqk", q_BxQxHxD, k_BxKxHxD, preferred_element_type=jnp.float32)
    queries, keys = scores.shape[-2:]
    ago = begin + np.arange(queries)[:, None] - (first + np.arange(keys))
    visible = (ago >= 0) & (ago < window) if window else ago >= 0
    weights = jax.nn.softmax(jnp.where(visible, scores, _HIDDEN))
    if dropout:
        kept = jax.random.bernoulli(key, 1 - dropout, weights.shape)
        weights = jnp.where(kept, weights / (1 - dropout), 0.0)
    return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v_BxKxHxD.dtype), v_BxKxHxD)


def cached_attention(q_HxD, k_HxCxD, v_HxCxD, visible_C):
    """Attention of one query to the visible entries of a cache; [H, D]."""
    scores = jnp.einsum(
        "hd,hcd->hc", q_HxD * q_HxD.shape[-1] ** -0.5, k_HxCxD, preferred_element_type=jnp.float32
    )
    weights = jax.nn.softmax(jnp.where(visible_C, scores, _HIDDEN))
    return jnp.einsum("hc,hcd->hd", weights.astype(v_HxCxD.dtype), v_HxCxD)


def rotate(x_TxHxD, position_T):
    """Rotary position embedding (Su et al., arXiv:2104.09864) of queries or keys.

    Args:
      x_TxHxD: [..., T, H, D], D even.
      position_T: int32 [T].
    """
    half = x_TxHxD.shape[-1] // 2
    frequency = 1e4 ** (-np.arange(half, dtype=np.float32) / half)
    angle = position_T[:, None, None].astype(jnp.float32) * frequency
    cos, sin = jnp.cos(angle).astype(x_TxHxD.dtype), jnp.sin(angle).astype(x_TxHxD.dtype)
    a, b = x_TxHxD[..., :half], x_TxHxD[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)
