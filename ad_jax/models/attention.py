"""Causal attention: over whole windows for training, over a cache for acting."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

_HIDDEN = -1e30


def dense_attention(q_BxTxHxD, k_BxTxHxD, v_BxTxHxD):
    """Causal softmax attention, the plain way; the oracle of the others. Float32 scores."""
    return _rows(0, 0.0, q_BxTxHxD, k_BxTxHxD, v_BxTxHxD, None)


def blocked_attention(
    q_BxTxHxD, k_BxTxHxD, v_BxTxHxD, *, block: int, dropout: float = 0.0, key=None
):
    """Causal softmax attention, block by block of queries.

    A block of queries reads the keys up to its own end, so half of the scores are never computed,
    and its scores are recomputed in the backward pass, so they are never stored.

    Args:
      q_BxTxHxD, k_BxTxHxD, v_BxTxHxD: queries, keys and values.
      block: queries per block.
      dropout: probability of dropping an attention weight.
      key: random key for the dropout, where there is any.

    Returns:
      [B, T, H, D], in the dtype of the values.
    """
    length = q_BxTxHxD.shape[1]
    blocks = []
    for i, begin in enumerate(range(0, length, block)):
        end = min(begin + block, length)
        rows = jax.checkpoint(partial(_rows, begin, dropout))
        block_key = jax.random.fold_in(key, i) if dropout else None
        blocks.append(
            rows(q_BxTxHxD[:, begin:end], k_BxTxHxD[:, :end], v_BxTxHxD[:, :end], block_key)
        )
    return jnp.concatenate(blocks, axis=1)


def _rows(begin, dropout, q_BxQxHxD, k_BxKxHxD, v_BxKxHxD, key):
    """Attention of the queries at positions ``begin``, ``begin`` + 1, … to all earlier keys."""
    q_BxQxHxD = q_BxQxHxD * q_BxQxHxD.shape[-1] ** -0.5
    scores = jnp.einsum("bqhd,bkhd->bhqk", q_BxQxHxD, k_BxKxHxD, preferred_element_type=jnp.float32)
    queries, keys = scores.shape[-2:]
    visible = begin + np.arange(queries)[:, None] >= np.arange(keys)
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
