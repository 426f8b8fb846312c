"""Causal attention: over whole windows for training, over a cache for acting."""

import math
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ad_jax.distributed.sharding import HEADS, traced_mesh, traced_platform

IMPLEMENTATIONS = ("auto", "blocked", "xla", "cudnn", "splash")
_HIDDEN = -1e30
_SPANS = 8  # of queries; more of them waste fewer scores, but take longer to compile
_CUDNN_MAX_WIDTH = 128  # of a head, before Hopper; a multiple of 8 everywhere
_SPLASH_BLOCK = 128  # its blocks of queries and keys are multiples of this


def attention(
    q_BxTxHxD, k_BxTxHxD, v_BxTxHxD, *,
    impl: str = "auto", window: int = 0, chunk: int, dropout: float = 0.0, key=None,
):  # fmt: skip
    """Causal softmax attention over whole windows.

    Args:
      q_BxTxHxD, k_BxTxHxD, v_BxTxHxD: queries, keys and values.
      impl: "blocked" (see ``blocked_attention``); "xla", JAX's own, which stores all scores;
        "cudnn", the flash attention of an NVIDIA GPU, for 16-bit floats without dropout; "splash",
        JAX's Pallas kernel for TPUs, without dropout; "auto", "cudnn" or "splash" where it can run,
        else "blocked".
      window: number of steps that a query sees, including its own; 0 for no limit.
      chunk: queries that "blocked" processes at once.
      dropout: probability of dropping an attention weight; only "blocked" supports it.
      key: random key for the dropout, if there is any.

    Returns:
      [B, T, H, D], in the dtype of the values.
    """
    width = v_BxTxHxD.shape[-1]
    impl = select_implementation(impl, traced_platform(), v_BxTxHxD.dtype, dropout, width)
    if impl == "blocked":
        return blocked_attention(
            q_BxTxHxD, k_BxTxHxD, v_BxTxHxD, window=window, chunk=chunk, dropout=dropout, key=key
        )
    if impl == "splash":
        return splash_attention(q_BxTxHxD, k_BxTxHxD, v_BxTxHxD, window=window)
    seen = (window - 1, 0) if window else None
    return jax.nn.dot_product_attention(
        q_BxTxHxD, k_BxTxHxD, v_BxTxHxD,
        is_causal=True, local_window_size=seen, implementation=impl,
    )  # fmt: skip


def select_implementation(
    impl: str, platform: str, dtype: jnp.dtype, dropout: float, head_width: int
) -> str:
    """The implementation that can run; warns where it is not the one asked for."""
    can = {"blocked": True, "xla": not dropout}
    fits = head_width % 8 == 0 and head_width <= _CUDNN_MAX_WIDTH
    can["cudnn"] = platform == "gpu" and dtype.itemsize == 2 and not dropout and fits
    can["splash"] = platform == "tpu" and not dropout
    if impl == "auto":
        return next((name for name in ("cudnn", "splash") if can[name]), "blocked")
    if can[impl]:
        return impl
    warnings.warn(
        f"attention={impl!r} can't run here (platform {platform}, {dtype}, dropout {dropout}, "
        f"heads of {head_width}): 'blocked' is used instead, which writes the scores of all "
        "queries to memory",
        stacklevel=2,
    )
    return "blocked"


def blocked_attention(
    q_BxTxHxD, k_BxTxHxD, v_BxTxHxD, *,
    window: int = 0, chunk: int, dropout: float = 0.0, key=None,
):  # fmt: skip
    """Causal softmax attention, one chunk of queries at a time.

    Queries are split into at most eight spans of whole chunks. A span reads only keys that at least
    one of its queries sees, so nearly half of the scores are never computed; with a window, more
    than that. The backward pass recomputes the scores. So they are never stored, and only those of
    one chunk are in memory at a time. For the arguments see ``attention``.
    """
    length = q_BxTxHxD.shape[1]
    span = chunk * math.ceil(length / (chunk * _SPANS))
    spans = []
    for begin in range(0, length, span):
        end = min(begin + span, length)
        first = max(0, begin - window + 1) if window else 0
        keys, values = k_BxTxHxD[:, first:end], v_BxTxHxD[:, first:end]
        attend = partial(_chunk, window, chunk, dropout, key, first, keys, values)
        spans.append(_by_chunk(attend, begin, q_BxTxHxD[:, begin:end], chunk))
    return jnp.concatenate(spans, axis=1)


def _chunk(window, chunk, dropout, key, first, k_BxKxHxD, v_BxKxHxD, begin, q_BxQxHxD):
    """Attention of a chunk of queries to what they see of the keys and values of their span."""
    keys, seen = k_BxKxHxD.shape[1], window + chunk - 1
    if window and seen < keys:
        unseen = jnp.clip(begin - window + 1 - first, 0, keys - seen)
        cut = lambda x: jax.lax.dynamic_slice_in_dim(x, unseen, seen, 1)
        first, k_BxKxHxD, v_BxKxHxD = first + unseen, cut(k_BxKxHxD), cut(v_BxKxHxD)
    key = jax.random.fold_in(key, begin // chunk) if dropout else None
    rows = jax.checkpoint(partial(_rows, window, dropout))
    return rows(begin, first, q_BxQxHxD, k_BxKxHxD, v_BxKxHxD, key)


def _by_chunk(attend, begin, q_BxQxHxD, chunk):
    """``attend(start, queries)`` of one chunk after the other; the last may be smaller."""
    batch, queries, *of_query = q_BxQxHxD.shape
    count, rest = divmod(queries, chunk)
    if queries <= chunk:
        return attend(begin, q_BxQxHxD)
    whole, last = jnp.split(q_BxQxHxD, [count * chunk], axis=1)
    whole = whole.reshape(batch, count, chunk, *of_query).swapaxes(0, 1)
    starts = begin + chunk * jnp.arange(count)
    out = jax.lax.map(lambda x: attend(*x), (starts, whole)).swapaxes(0, 1)
    out = out.reshape(batch, count * chunk, *of_query)
    return jnp.concatenate([out, attend(begin + count * chunk, last)], axis=1) if rest else out


def splash_attention(q_BxTxHxD, k_BxTxHxD, v_BxTxHxD, *, window: int = 0, interpret: bool = False):
    """Causal softmax attention by JAX's Pallas kernel for TPUs, which never stores the scores.

    If the program is traced for a mesh, each device computes its own windows and heads. For the
    other arguments see ``attention``.

    Args:
      interpret: run it step by step on any platform, for tests.
    """
    # Imported here because it takes a second, and only a TPU needs it.
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel,
        splash_attention_mask,
    )

    length, width = q_BxTxHxD.shape[1], q_BxTxHxD.shape[-1]
    padding = -length % _SPLASH_BLOCK  # after the end, where no query looks
    size = min(length + padding, 4 * _SPLASH_BLOCK)
    while (length + padding) % size:
        size -= _SPLASH_BLOCK
    sizes = splash_attention_kernel.BlockSizes(*[size] * 8, use_fused_bwd_kernel=False)

    def on_one_device(*arrays_BxTxHxD):
        shape = length + padding, length + padding
        if window:
            mask = splash_attention_mask.LocalMask(shape, (window - 1, 0), 0)
        else:
            mask = splash_attention_mask.CausalMask(shape)
        heads = arrays_BxTxHxD[0].shape[2]
        kernel = splash_attention_kernel.make_splash_mha_single_device(
            splash_attention_mask.MultiHeadMask([mask] * heads),
            block_sizes=sizes, interpret=interpret,
        )  # fmt: skip
        pads = (0, 0), (0, padding), (0, 0), (0, 0)
        q, k, v = (jnp.pad(x, pads).swapaxes(1, 2) for x in arrays_BxTxHxD)
        return jax.vmap(kernel)(q * width**-0.5, k, v).swapaxes(1, 2)[:, :length]

    mesh = traced_mesh()
    if mesh is not None:
        on_one_device = jax.shard_map(
            on_one_device, mesh=mesh, in_specs=(HEADS,) * 3, out_specs=HEADS, check_vma=False
        )
    return on_one_device(q_BxTxHxD, k_BxTxHxD, v_BxTxHxD)


def attention_weights(q_BxTxHxD, k_BxTxHxD, window: int = 0):
    """Attention weights, float32 [B, H, query, key]. For the arguments see ``attention``."""
    return _weights(window, 0, 0, q_BxTxHxD, k_BxTxHxD)


def _weights(window, begin, first, q_BxQxHxD, k_BxKxHxD):
    """Weights of queries at ``begin``, ``begin`` + 1, … on keys at ``first``, ``first`` + 1, …"""
    q_BxQxHxD = q_BxQxHxD * q_BxQxHxD.shape[-1] ** -0.5
    scores = jnp.einsum("bqhd,bkhd->bhqk", q_BxQxHxD, k_BxKxHxD, preferred_element_type=jnp.float32)
    queries, keys = scores.shape[-2:]
    ago = begin + np.arange(queries)[:, None] - (first + np.arange(keys))
    visible = (ago >= 0) & (ago < window) if window else ago >= 0
    return jax.nn.softmax(jnp.where(visible, scores, _HIDDEN))


def _rows(window, dropout, begin, first, q_BxQxHxD, k_BxKxHxD, v_BxKxHxD, key):
    """Attention of queries to keys and their values, which begin as in ``_weights``."""
    weights = _weights(window, begin, first, q_BxQxHxD, k_BxKxHxD)
    if dropout:
        kept = jax.random.bernoulli(key, 1 - dropout, weights.shape)
        weights = jnp.where(kept, weights / (1 - dropout), 0.0)
    return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v_BxKxHxD.dtype), v_BxKxHxD)


def cached_attention(q_HxD, k_HxCxD, v_HxDxC, visible_C):
    """Attention of one query to the visible entries of a cache; [H, D].

    Values are stored by component, since a CPU sums a few long rows faster than many short ones.
    """
    scores = jnp.einsum(
        "hd,hcd->hc", q_HxD * q_HxD.shape[-1] ** -0.5, k_HxCxD, preferred_element_type=jnp.float32
    )
    weights = jax.nn.softmax(jnp.where(visible_C, scores, _HIDDEN))
    return jnp.einsum("hc,hdc->hd", weights.astype(v_HxDxC.dtype), v_HxDxC)


def rotate(x_Tx2xHxD, position_T):
    """Rotary position embedding (Su et al., arXiv:2104.09864) of queries and keys.

    Args:
      x_Tx2xHxD: queries and keys, [..., T, 2, H, D]; D is even.
      position_T: int32 [T].
    """
    half = x_Tx2xHxD.shape[-1] // 2
    frequency = 1e4 ** (-np.arange(half, dtype=np.float32) / half)
    angle = position_T[:, None, None, None].astype(jnp.float32) * frequency
    cos, sin = (f(angle).astype(x_Tx2xHxD.dtype) for f in (jnp.cos, jnp.sin))
    a, b = jnp.split(x_Tx2xHxD, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)
