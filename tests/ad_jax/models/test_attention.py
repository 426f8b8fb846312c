import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ad_jax.models.attention import blocked_attention, cached_attention, dense_attention, rotate


def qkv(seed=0, length=13):
    keys = jax.random.split(jax.random.key(seed), 3)
    return [jax.random.normal(k, (2, length, 3, 8)) for k in keys]


def by_hand(q, k, v):
    """Attention by the formula, one query at a time, in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.zeros_like(q)
    for b, t, h in np.ndindex(q.shape[:3]):
        scores = k[b, : t + 1, h] @ q[b, t, h] / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max())
        out[b, t, h] = weights / weights.sum() @ v[b, : t + 1, h]
    return out


def test_dense_attention_is_the_formula():
    np.testing.assert_allclose(dense_attention(*qkv()), by_hand(*qkv()), atol=1e-5)


@pytest.mark.parametrize("block", [1, 4, 13, 100])
def test_blocked_attention_equals_dense_attention_and_so_do_its_gradients(block):
    def loss(attention):
        return lambda args: (attention(*args) * jnp.arange(8)).sum()

    blocked = lambda *args: blocked_attention(*args, block=block)
    np.testing.assert_allclose(blocked(*qkv()), dense_attention(*qkv()), atol=1e-5)
    for got, want in zip(
        jax.grad(loss(blocked))(qkv()), jax.grad(loss(dense_attention))(qkv()), strict=True
    ):
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_dropout_keeps_the_mean_and_depends_on_the_key():
    q, k, v = qkv(length=6)
    drop = jax.jit(jax.vmap(lambda key: blocked_attention(q, k, v, block=4, dropout=0.3, key=key)))
    samples = drop(jax.random.split(jax.random.key(1), 4000))
    assert samples.std(0).max() > 0.1
    np.testing.assert_allclose(samples.mean(0), dense_attention(q, k, v), atol=0.12)


def test_cached_attention_reads_only_what_is_visible():
    q, k, v = (x[0] for x in qkv())
    visible = np.arange(13) < 5
    want = by_hand(q[None, :5], k[None, :5], v[None, :5])[0, 4]
    np.testing.assert_allclose(
        cached_attention(q[4], k.swapaxes(0, 1), v.swapaxes(0, 1), visible), want, atol=1e-5
    )


def test_rotated_scores_depend_on_the_distance_alone():
    q, k, _ = (x[0, :1] for x in qkv())
    score = lambda i, j: (rotate(q, jnp.array([i])) * rotate(k, jnp.array([j]))).sum()
    np.testing.assert_allclose(score(7, 3), score(107, 103), rtol=1e-3)
    assert abs(score(7, 3) - score(7, 4)) > 1e-2
