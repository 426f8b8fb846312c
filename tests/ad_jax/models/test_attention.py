import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ad_jax.models.attention import (
    attention,
    blocked_attention,
    cached_attention,
    choose,
    dense_attention,
    rotate,
)


def qkv(seed=0, length=13):
    keys = jax.random.split(jax.random.key(seed), 3)
    return [jax.random.normal(k, (2, length, 3, 8)) for k in keys]


def by_hand(q, k, v, window=100):
    """Attention by the formula, one query at a time, in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.zeros_like(q)
    for b, t, h in np.ndindex(q.shape[:3]):
        seen = slice(max(0, t + 1 - window), t + 1)
        scores = k[b, seen, h] @ q[b, t, h] / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max())
        out[b, t, h] = weights / weights.sum() @ v[b, seen, h]
    return out


@pytest.mark.parametrize("window", [0, 1, 4])
def test_dense_attention_is_the_formula(window):
    want = by_hand(*qkv(), window or 100)
    np.testing.assert_allclose(dense_attention(*qkv(), window), want, atol=1e-5)


@pytest.mark.parametrize("window", [0, 1, 6])
@pytest.mark.parametrize("impl, block", [("blocked", b) for b in (1, 4, 13, 100)] + [("xla", 1)])
def test_every_implementation_equals_dense_attention_and_so_do_its_gradients(impl, block, window):
    def loss(attention):
        return lambda args: (attention(*args) * jnp.arange(8)).sum()

    ours = lambda *args: attention(*args, impl=impl, block=block, window=window)
    dense = lambda *args: dense_attention(*args, window)
    np.testing.assert_allclose(ours(*qkv()), dense(*qkv()), atol=1e-5)
    for got, want in zip(jax.grad(loss(ours))(qkv()), jax.grad(loss(dense))(qkv()), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_what_can_not_run_is_replaced_with_a_warning():
    half, full = np.dtype(jnp.bfloat16), np.dtype(np.float32)
    assert choose("auto", "gpu", half, 0.0) == choose("cudnn", "gpu", half, 0.0) == "cudnn"
    assert choose("auto", "gpu", half, 0.1) == choose("auto", "gpu", full, 0.0) == "blocked"
    assert choose("auto", "cpu", half, 0.0) == choose("auto", "tpu", half, 0.0) == "blocked"
    assert choose("xla", "tpu", full, 0.0) == "xla"
    for impl, platform, dtype, dropout in (
        ("cudnn", "cpu", half, 0.0), ("cudnn", "gpu", full, 0.0), ("xla", "cpu", full, 0.5)
    ):  # fmt: skip
        with pytest.warns(
            UserWarning, match=f"attention='{impl}' can't run here.*writes the scores"
        ):
            assert choose(impl, platform, dtype, dropout) == "blocked"


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
