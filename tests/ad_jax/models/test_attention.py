import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ad_jax.distributed import sharding
from ad_jax.models.attention import (
    attention,
    attention_weights,
    blocked_attention,
    cached_attention,
    rotate,
    select_implementation,
    splash_attention,
)
from tests.ad_jax.models.oracles import dense_attention


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
    q, k, v = qkv()
    weights = attention_weights(q, k, window)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(jnp.einsum("bhqk,bkhd->bqhd", weights, v), want, atol=1e-5)


@pytest.mark.parametrize("window", [0, 1, 6])
@pytest.mark.parametrize("impl, block", [("blocked", b) for b in (1, 3, 13, 100)] + [("xla", 1)])
def test_every_implementation_equals_dense_attention_and_so_do_its_gradients(impl, block, window):
    """With 35 steps and chunks of 3, spans have two chunks each, and the last one is smaller."""

    def loss(attention):
        return lambda args: (attention(*args) * jnp.arange(8)).sum()

    args = qkv(length=35)
    ours = jax.jit(lambda *args: attention(*args, impl=impl, chunk=block, window=window))
    dense = jax.jit(lambda *args: dense_attention(*args, window))
    np.testing.assert_allclose(ours(*args), dense(*args), atol=1e-5)
    gradients = [jax.jit(jax.grad(loss(attention)))(args) for attention in (ours, dense)]
    for got, want in zip(*gradients, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize("window", [0, 50])
def test_the_kernel_for_tpus_equals_dense_attention_and_so_do_its_gradients(window):
    """Interpreted. 150 is not a multiple of its block size. On a mesh, devices share the work."""
    keys = jax.random.split(jax.random.key(0), 3)
    args = [jax.random.normal(k, (4, 150, 2, 8)) for k in keys]
    splash = lambda *args: splash_attention(*args, window=window, interpret=True)
    mesh = sharding.make_mesh(data=2, model=2)

    def run(attention, args):
        loss = lambda args: (attention(*args) * jnp.arange(8)).mean()
        return jax.jit(lambda args: (attention(*args), jax.grad(loss)(args)))(args)

    want = run(lambda *args: dense_attention(*args, window), args)
    spread = jax.device_put(args, sharding.batch_sharding(mesh))
    for got in (run(splash, args), run(sharding.on_mesh(mesh, splash), spread)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, want)


SPECIAL = {"gpu": ["cudnn"], "tpu": ["splash"]}.get(jax.default_backend(), [])


@pytest.mark.parametrize("window", [0, 50])
@pytest.mark.parametrize("impl", ["blocked", "xla", *SPECIAL])
def test_in_16_bits_every_implementation_that_runs_here_is_near_dense_attention(impl, window):
    """On an NVIDIA GPU this is the test of cudnn."""
    keys = jax.random.split(jax.random.key(0), 3)
    full = [jax.random.normal(k, (2, 256, 4, 64)) for k in keys]
    half = [x.astype(jnp.bfloat16) for x in full]
    ours = lambda *args: attention(*args, impl=impl, chunk=64, window=window)
    dense = lambda *args: dense_attention(*args, window)

    def run(attention, args):
        loss = lambda args: (attention(*args).astype(jnp.float32) * jnp.arange(64)).mean()
        return jax.jit(lambda args: (attention(*args), jax.grad(loss)(args)))(args)

    got, want = run(ours, half), run(dense, full)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.02 * np.abs(b).max())


def test_what_can_not_run_is_replaced_with_a_warning():
    half, full = np.dtype(jnp.bfloat16), np.dtype(np.float32)
    choose = lambda impl, platform, dtype, dropout=0.0, width=64: select_implementation(
        impl, platform, dtype, dropout, width
    )
    for arguments, want in (
        (("auto", "gpu", half), "cudnn"), (("cudnn", "gpu", half), "cudnn"),
        (("auto", "gpu", half, 0.1), "blocked"), (("auto", "gpu", full), "blocked"),
        (("auto", "gpu", half, 0.0, 12), "blocked"), (("auto", "gpu", half, 0.0, 512), "blocked"),
        (("auto", "cpu", half), "blocked"), (("auto", "tpu", half, 0.1), "blocked"),
        (("auto", "tpu", half), "splash"), (("splash", "tpu", full), "splash"),
        (("xla", "tpu", full), "xla"),
    ):  # fmt: skip
        assert choose(*arguments) == want, arguments
    for arguments in (
        ("splash", "gpu", half), ("cudnn", "cpu", half), ("cudnn", "gpu", full),
        ("cudnn", "gpu", half, 0.0, 12), ("xla", "cpu", full, 0.5),
    ):  # fmt: skip
        message = f"attention='{arguments[0]}' can't run here.*writes the scores"
        with pytest.warns(UserWarning, match=message):
            assert choose(*arguments) == "blocked"


def test_dropout_keeps_the_mean_and_depends_on_the_key():
    q, k, v = qkv(length=6)
    drop = jax.jit(jax.vmap(lambda key: blocked_attention(q, k, v, chunk=4, dropout=0.3, key=key)))
    samples = drop(jax.random.split(jax.random.key(1), 4000))
    assert samples.std(0).max() > 0.1
    np.testing.assert_allclose(samples.mean(0), dense_attention(q, k, v), atol=0.12)


def test_cached_attention_reads_only_what_is_visible():
    q, k, v = (x[0] for x in qkv())
    visible = np.arange(13) < 5
    want = by_hand(q[None, :5], k[None, :5], v[None, :5])[0, 4]
    np.testing.assert_allclose(
        cached_attention(q[4], k.swapaxes(0, 1), v.transpose(1, 2, 0), visible), want, atol=1e-5
    )


def test_rotated_scores_depend_on_the_distance_alone():
    q, k, _ = (x[0, :1, None] for x in qkv())  # [1 step, 1 of two, heads, width]
    score = lambda i, j: (rotate(q, jnp.array([i])) * rotate(k, jnp.array([j]))).sum()
    np.testing.assert_allclose(score(7, 3), score(107, 103), rtol=1e-3)
    assert abs(score(7, 3) - score(7, 4)) > 1e-2
