"""Slow and simple implementations to compare ``ad_jax.models`` with."""

import jax
import jax.numpy as jnp


def dense_attention(q_BxTxHxD, k_BxTxHxD, v_BxTxHxD, window: int = 0):
    """Causal softmax attention with all scores at once."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", q_BxTxHxD, k_BxTxHxD) * q_BxTxHxD.shape[-1] ** -0.5
    time = jnp.arange(q_BxTxHxD.shape[1])
    ago = time[:, None] - time
    visible = (ago >= 0) & (ago < (window or len(time)))
    weights = jax.nn.softmax(jnp.where(visible, scores, -1e30))
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v_BxTxHxD)
