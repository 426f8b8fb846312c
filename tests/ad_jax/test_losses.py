"""Losses, advantages and returns equal their definitions, written out."""

import numpy as np
import pytest

from ad_jax.losses import (
    MIN_VARIANCE,
    clipped_surrogate,
    generalised_advantages,
    q_lambda_returns,
    variance,
)


def test_the_variance_is_never_0():
    target = np.float32([[1, 5, 9], [3, 7, 7]])
    np.testing.assert_allclose(variance(target), target.var(), rtol=1e-6)
    assert variance(np.ones(4, np.float32)) == np.float32(MIN_VARIANCE)


def test_the_surrogate_is_clipped_on_the_side_that_gains():
    """Advantages 3 and -1 become 1 and -1; of ratios beyond 1 ± 0.2 the smaller gain counts."""
    advantage = np.float32([3, -1])
    for ratios, gains in (((1, 1), (1, -1)), ((2, 2), (1.2, -2)), ((0.5, 0.5), (0.5, -0.8))):
        loss = clipped_surrogate(np.log(np.float32(ratios)), np.zeros(2), advantage, 0.2, 1e-3)
        np.testing.assert_allclose(loss, -np.mean(gains), rtol=1e-5, atol=1e-6)
    few = clipped_surrogate(np.log(np.float32([1, 2])), np.zeros(2), advantage, 2.0, 20.0)
    np.testing.assert_allclose(few, -(0.1 - 0.2) / 2, rtol=1e-5)  # divided by 20, and not by 2


def naive_advantages(reward, value, next_value, is_last, is_terminal, discount, lam):
    """The sum of (γλ)^k δ_{t+k} up to the end of the episode, written out (equation 16)."""
    steps = len(reward)
    bootstrapped = [0.0 if is_terminal[t] else next_value[t] for t in range(steps)]
    delta = [reward[t] + discount * bootstrapped[t] - value[t] for t in range(steps)]
    advantages = []
    for t in range(steps):
        total = 0.0
        for k in range(steps - t):
            total += (discount * lam) ** k * delta[t + k]
            if is_last[t + k]:
                break
        advantages.append(total)
    return advantages


def test_advantages_equal_a_naive_loop():
    rng = np.random.default_rng(0)
    reward, value, next_value = rng.normal(size=(3, 40, 6)).astype(np.float32)
    is_last = rng.random((40, 6)) < 0.2
    is_terminal = is_last & (rng.random((40, 6)) < 0.5)
    inputs = (reward, value, next_value, is_last, is_terminal)
    got = generalised_advantages(*inputs, 0.9, 0.8)
    expected = np.stack(
        [naive_advantages(*(x[:, i] for x in inputs), 0.9, 0.8) for i in range(6)], 1
    )
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert np.any(is_terminal) and np.any(is_last & ~is_terminal)


@pytest.mark.parametrize(
    ("is_last", "is_terminal", "expected"),
    [
        # δ = (1 + 0.5·4 − 2, 1 + 0.5·6 − 4) = (1, 0) where all is bootstrapped from; γλ = 0.25.
        ((False, False), (False, False), (1.0, 0.0)),
        ((True, False), (False, False), (1.0, 0.0)),  # a time limit
        ((True, False), (True, False), (-1.0, 0.0)),  # an end
        ((False, True), (False, True), (1.0 - 0.75, -3.0)),
    ],
)
def test_time_limits_are_bootstrapped_from_and_ends_are_not(is_last, is_terminal, expected):
    got = generalised_advantages(
        np.float32([1, 1]), np.float32([2, 4]), np.float32([4, 6]),
        np.array(is_last), np.array(is_terminal), 0.5, 0.5,
    )  # fmt: skip
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def naive_q_lambda(reward, next_value, is_last, is_terminal, discount, lam):
    """Mixes the n-step returns of each step, by the definition."""
    steps = len(reward)
    value = [0.0 if is_terminal[t] else next_value[t] for t in range(steps)]
    returns = []
    for t in range(steps):
        end = next(k for k in range(t, steps) if is_last[k] or k == steps - 1)
        n_step = lambda n, t=t: (
            sum(discount**k * reward[t + k] for k in range(n)) + discount**n * value[t + n - 1]
        )
        longest = end - t + 1
        mixed = sum((1 - lam) * lam ** (n - 1) * n_step(n) for n in range(1, longest))
        returns.append(mixed + lam ** (longest - 1) * n_step(longest))
    return returns


@pytest.mark.parametrize("lam", [0.0, 0.75, 1.0])
def test_q_lambda_returns_equal_a_naive_loop(lam):
    rng = np.random.default_rng(1)
    reward, next_value = rng.normal(size=(2, 30, 5)).astype(np.float32)
    is_last = rng.random((30, 5)) < 0.2
    is_terminal = is_last & (rng.random((30, 5)) < 0.5)
    inputs = (reward, next_value, is_last, is_terminal)
    got = q_lambda_returns(*map(np.asarray, inputs), 0.9, lam)
    expected = np.stack([naive_q_lambda(*(x[:, i] for x in inputs), 0.9, lam) for i in range(5)], 1)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
