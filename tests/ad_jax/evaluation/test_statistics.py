import numpy as np
import pytest

from ad_jax.evaluation import statistics
from ad_jax.evaluation.statistics import (
    across_seeds,
    confidence_interval,
    episode_returns,
)


def test_returns_of_episodes_of_different_lengths():
    reward = np.array([[1, 2, 4, 8, 16, 32], [1, 1, 1, 1, 1, 1]], np.float32)
    is_last = np.array([[0, 1, 1, 0, 0, 1], [0, 0, 0, 0, 1, 0]], bool)
    want = [[3, 4, 56], [5, np.nan, np.nan]]
    np.testing.assert_array_equal(episode_returns(reward, is_last, 3), want)
    np.testing.assert_array_equal(episode_returns(reward, is_last, 2), [w[:2] for w in want])
    stacked = episode_returns(np.stack([reward, reward]), np.stack([is_last, is_last]), 3)
    np.testing.assert_array_equal(stacked, [want, want])


COMPONENTS = {  # standard deviations of seeds, tasks, their interaction and rollouts
    "seeds": (1.0, 0.0, 0.0, 0.3),
    "tasks": (0.0, 1.0, 0.0, 0.3),
    "rollouts": (0.0, 0.0, 0.0, 1.0),
    "seeds and tasks": (0.3, 1.0, 0.0, 1.0),
    "all": (0.4, 0.5, 0.5, 1.0),
}


def sample(seeds, tasks, rollouts, of, number=4000):
    """Many experiments, [seed, task, rollout, experiment], whose true mean is 0."""
    rng = np.random.default_rng(0)
    parts = (seeds, 1, 1), (1, tasks, 1), (seeds, tasks, 1), (seeds, tasks, rollouts)
    return sum(
        deviation * rng.normal(size=(*shape, number))
        for deviation, shape in zip(of, parts, strict=True)
    )


@pytest.mark.parametrize(
    "seeds, tasks, of",
    [
        (seeds, tasks, of)
        for seeds, tasks in [(3, 16), (5, 8), (3, 1), (10, 30)]
        for of in COMPONENTS.values()
        if tasks > 1 or not of[1]  # a single task does not show how tasks differ
    ],
)
def test_an_interval_covers_the_mean_as_often_as_it_says(seeds, tasks, of):
    """Whatever the source of the variance; it may cover more often if only rollouts differ."""
    low, high = confidence_interval(sample(seeds, tasks, 4, of)).T
    assert 0.92 < ((low < 0) & (high > 0)).mean() < (0.98 if any(of[:3]) else 1)


def test_pooling_and_resampling_seeds_would_cover_too_rarely():
    """With three models, nominal 95 % intervals of these two methods cover less than 85 %."""
    values = sample(3, 16, 4, COMPONENTS["all"], 400)
    pooled = values.reshape(-1, 400)
    half = 1.96 * pooled.std(0) / np.sqrt(len(pooled))
    assert 0.4 < (np.abs(pooled.mean(0)) < half).mean() < 0.75
    by_seed = values.mean((1, 2))
    rng = np.random.default_rng(0)
    means = np.stack([by_seed[rng.integers(3, size=3)].mean(0) for _ in range(500)])
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    assert ((low < 0) & (high > 0)).mean() < 0.85
    low, high = confidence_interval(values).T
    assert ((low < 0) & (high > 0)).mean() > 0.92


def test_with_one_seed_the_interval_is_of_tasks_and_rollouts():
    low, high = confidence_interval(sample(1, 12, 4, COMPONENTS["tasks"])).T
    assert 0.93 < ((low < 0) & (high > 0)).mean() < 0.97
    low, high = confidence_interval(sample(1, 1, 6, COMPONENTS["rollouts"])).T
    assert 0.93 < ((low < 0) & (high > 0)).mean() < 0.97


def test_what_does_not_differ_has_no_interval():
    assert confidence_interval(np.ones((3, 2, 4, 5))).tolist() == [[1, 1]] * 5
    assert confidence_interval(np.ones((1, 1, 1))).tolist() == [1, 1]
    assert np.isnan(confidence_interval(np.full((3, 2, 4), np.nan))).all()


def test_what_is_shown_of_several_seeds():
    values = np.random.default_rng(0).normal(size=(3, 5, 4, 2))
    found = across_seeds(values)
    np.testing.assert_allclose(found["mean"], values.mean((0, 1, 2)))
    np.testing.assert_allclose(found["by_seed"].mean(0), found["mean"])
    np.testing.assert_allclose(found["ci95"].mean(-1), found["mean"])


def test_the_probability_of_improvement_counts_pairs():
    """Oracle: all pairs of a task, one by one."""
    rng = np.random.default_rng(0)
    ours, theirs = (rng.integers(4, size=(2, 3, 5)).astype(float) for _ in range(2))
    pairs = [
        np.mean([(a > b) + (a == b) / 2 for a in ours[:, t].ravel() for b in theirs[:, t].ravel()])
        for t in range(3)
    ]
    assert np.isclose(statistics.improvement(ours, theirs).mean(), np.mean(pairs))
    assert np.isclose(statistics.improvement(ours, ours).mean(), 0.5)
    assert (statistics.improvement(ours + 9, theirs) == 1).all()


def test_a_performance_profile_falls_from_one_to_nothing():
    scores = np.linspace(0.05, 0.95, 10).reshape(1, 2, 5)
    profile = statistics.performance_profile(scores, np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(profile.mean((0, 1, 2)), [1, 0.5, 0])
