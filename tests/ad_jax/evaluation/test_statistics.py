import numpy as np

from ad_jax.evaluation import statistics
from ad_jax.evaluation.statistics import (
    across_seeds,
    confidence_interval,
    episode_returns,
    interquartile_mean,
)


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


def test_the_interquartile_mean_takes_no_notice_of_the_extremes():
    scores = np.array([-1000.0, 1, 2, 3, 4, 5, 6, 1000])
    assert interquartile_mean(scores) == np.mean([2, 3, 4, 5])
    assert interquartile_mean(np.stack([scores, scores + 1], 1), axis=0).tolist() == [3.5, 4.5]


def test_what_is_shown_of_several_seeds():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 5, 4, 2))
    found = across_seeds(values)
    np.testing.assert_allclose(found["mean"], values.mean((0, 1, 2)))
    of_a_rollout = values.mean(1).reshape(12, 2)  # tasks are averaged first
    np.testing.assert_allclose(found["std"], of_a_rollout.std(0))
    middle = np.sort(values.reshape(60, 2), 0)[15:45].mean(0)
    np.testing.assert_allclose(found["iqm"], middle)
    low, high = found["iqm_ci95"].T
    assert (low < middle).all() and (middle < high).all()


def test_differences_between_tasks_do_not_widen_the_interval():
    """The bootstrap is stratified: rollouts are drawn anew, tasks are what they are."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, 6, 20, 1))
    width = lambda values: np.diff(across_seeds(values)["iqm_ci95"])[0, 0]
    apart = np.linspace(-100, 100, 6)[:, None, None]
    assert width(noise) > 0.2 and width(noise + apart) < 2 * width(noise)
    assert width(np.broadcast_to(apart, (2, 6, 20, 1))) == 0


def test_one_rollout_has_no_interval_but_itself():
    found = across_seeds(np.ones((1, 3, 1, 2)))
    assert found["iqm_ci95"].tolist() == [[1, 1], [1, 1]] and found["std"].tolist() == [0, 0]


def test_the_probability_of_improvement_counts_pairs():
    """Oracle: all pairs of a task, one by one."""
    rng = np.random.default_rng(0)
    ours, theirs = (rng.integers(4, size=(2, 3, 5)).astype(float) for _ in range(2))
    pairs = [
        np.mean([(a > b) + (a == b) / 2 for a in ours[:, t].ravel() for b in theirs[:, t].ravel()])
        for t in range(3)
    ]
    assert np.isclose(statistics.probability_of_improvement(ours, theirs), np.mean(pairs))
    assert statistics.probability_of_improvement(ours, ours) == 0.5
    assert statistics.probability_of_improvement(ours + 9, theirs) == 1


def test_a_performance_profile_falls_from_one_to_nothing():
    scores = np.linspace(0.05, 0.95, 10).reshape(1, 2, 5)
    profile = statistics.performance_profile(scores, np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(profile, [1, 0.5, 0])


def test_intervals_that_resample_seeds_first_cover_the_mean_of_all_seeds():
    """Models differ more than rollouts: an interval that pools them covers far too rarely."""
    rng = np.random.default_rng(0)
    covered, pooled, trials = 0, 0, 150
    for _ in range(trials):
        models = rng.normal(size=(5, 1, 1))
        values = models + 0.3 * rng.normal(size=(5, 4, 6))
        low, high = statistics.hierarchical_bootstrap(values, np.mean, resamples=200)
        covered += low <= 0 <= high
        low, high = statistics.confidence_interval(statistics.by_task(values)[..., None], 0, 200)[0]
        pooled += low <= 0 <= high
    assert covered / trials > 0.75  # five seeds are few: a percentile bootstrap is a little narrow
    assert pooled / trials < 0.5
