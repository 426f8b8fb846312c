import numpy as np

from ad_jax.evaluation.statistics import confidence_interval, episode_returns


def test_returns_of_episodes_of_different_lengths():
    reward = np.array([[1, 2, 4, 8, 16, 32], [1, 1, 1, 1, 1, 1]], np.float32)
    is_last = np.array([[0, 1, 1, 0, 0, 1], [0, 0, 0, 0, 1, 0]], bool)
    want = [[3, 4, 56], [5, np.nan, np.nan]]
    np.testing.assert_array_equal(episode_returns(reward, is_last, 3), want)
    np.testing.assert_array_equal(episode_returns(reward, is_last, 2), [w[:2] for w in want])
    stacked = episode_returns(np.stack([reward, reward]), np.stack([is_last, is_last]), 3)
    np.testing.assert_array_equal(stacked, [want, want])


def test_interval_covers_the_truth_as_often_as_it_says():
    """95 % of the intervals of samples with a known mean should hold it."""
    rng = np.random.default_rng(0)
    task_means = rng.normal(size=(8, 1, 1))  # differences between tasks must not widen it
    covered, widths = [], []
    for seed in range(100):
        values = task_means + rng.normal(size=(8, 16, 2))
        low, high = confidence_interval(values, seed=seed, resamples=300).T
        covered += list((low < task_means.mean()) & (task_means.mean() < high))
        widths += list(high - low)
    assert 0.87 < np.mean(covered) < 0.99
    assert 0.8 < np.mean(widths) / (2 * 1.96 / np.sqrt(8 * 16)) < 1.1
