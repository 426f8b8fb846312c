"""Returns of episodes, and intervals over rollouts and training seeds."""

from collections.abc import Callable

import numpy as np
from scipy import stats


def episode_returns(reward: np.ndarray, is_last: np.ndarray, num_episodes: int) -> np.ndarray:
    """Return of each episode of each stream.

    Args:
      reward: float [..., time].
      is_last: bool [..., time].
      num_episodes: how many episodes to count.

    Returns:
      float64 [..., num_episodes]; NaN for episodes that did not end.
    """
    lead, time = reward.shape[:-1], reward.shape[-1]
    reward, is_last = reward.reshape(-1, time), is_last.reshape(-1, time)
    ended = np.cumsum(is_last, -1)
    episode = ended - is_last  # the index of the episode each step belongs to
    row = np.arange(len(reward))[:, None]
    inside = (episode < num_episodes) & (episode < ended[:, -1:])
    flat = (row * num_episodes + episode)[inside]
    total = np.bincount(flat, reward[inside], minlength=len(reward) * num_episodes)
    returns = total.reshape(len(reward), num_episodes)
    returns[np.arange(num_episodes) >= ended[:, -1:]] = np.nan
    return returns.reshape(*lead, num_episodes)


def last_tenth(values: np.ndarray) -> np.ndarray:
    """The last tenth of the last axis, at least one."""
    return values[..., -max(1, values.shape[-1] // 10) :]


def confidence_interval(values: np.ndarray, seed: int = 0, resamples: int = 2000) -> np.ndarray:
    """95 % bootstrap interval of the mean over tasks and rollouts.

    Rollouts are resampled within each task (the tasks are what the figure is about; the rollouts
    are the sample): a stratified percentile bootstrap.

    Args:
      values: float [task, rollout, episode].
      seed: of the resampling.
      resamples: number of them.

    Returns:
      float [episode, 2]: low and high.
    """
    tasks, rollouts, _ = values.shape
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[-1]))
    for i in range(resamples):
        pick = rng.integers(rollouts, size=(tasks, rollouts))
        means[i] = np.take_along_axis(values, pick[..., None], 1).mean((0, 1))
    return np.percentile(means, [2.5, 97.5], axis=0).T


def interquartile_mean(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean of the middle half, as reliable comparisons have it (arXiv:2108.13264)."""
    return stats.trim_mean(scores, 0.25, axis=axis)


def by_task(values: np.ndarray) -> np.ndarray:
    """[seed, task, rollout, point] as [task, seed * rollout, point], the first seed's first."""
    return np.concatenate(values, axis=1)


def across_seeds(values: np.ndarray, resamples: int = 500) -> dict[str, np.ndarray]:
    """What a figure shows of several training seeds.

    Args:
      values: float [seed, task, rollout, point]: training seeds, tasks, rollouts (which are the
        seeds of the evaluation), and points of a curve.
      resamples: of the bootstrap.

    Returns:
      Arrays [point]: ``mean``; ``std``, over training seeds and rollouts, of the means over tasks;
      ``iqm``, the interquartile mean of all of them; and ``iqm_ci95`` [point, 2], its percentile
      bootstrap interval stratified by task, for which a task's rollouts of all seeds are its
      sample.
    """
    seeds, _, rollouts, points = values.shape
    pooled = by_task(values)
    middle = interquartile_mean(pooled.reshape(-1, points), 0)
    interval = np.stack([middle, middle], -1)
    if seeds * rollouts > 1:
        interval = np.stack(
            stats.bootstrap(
                [task.T for task in pooled],
                lambda *samples, axis: interquartile_mean(np.concatenate(samples, axis), axis),
                axis=-1, n_resamples=resamples, batch=20, method="percentile", rng=0,
            ).confidence_interval,
            -1,
        )  # fmt: skip
    return {
        "mean": values.mean((0, 1, 2)),
        "std": values.mean(1).std((0, 1)),
        "iqm": middle,
        "iqm_ci95": interval,
    }


def hierarchical_bootstrap(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    resamples: int = 500,
    seed: int = 0,
) -> np.ndarray:
    """95 % interval of a statistic: training seeds are resampled first, then rollouts in each task.

    The tasks are what the figure is about, and stay. With one training seed the interval is that of
    rollouts of one model.

    Args:
      values: float [seed, task, rollout, ...].
      statistic: of such an array, an array of any shape.
      resamples: number of them.
      seed: of the draws.

    Returns:
      [2, ...]: low and high.
    """
    seeds, tasks, rollouts = values.shape[:3]
    rng = np.random.default_rng(seed)
    task = np.arange(tasks)[None, :, None]
    made = []
    for _ in range(resamples):
        of_seed = rng.integers(seeds, size=(seeds, 1, 1))
        of_task = rng.integers(rollouts, size=(seeds, tasks, rollouts))
        made.append(statistic(values[of_seed, task, of_task]))
    return np.percentile(made, [2.5, 97.5], axis=0)


def performance_profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Part of the rollouts whose score is above each threshold, averaged over tasks.

    Agarwal et al. 2021 (arXiv:2108.13264), section 4.2, with rollouts of all seeds as runs.

    Args:
      scores: float [seed, task, rollout].
      thresholds: float [point].

    Returns:
      float [point].
    """
    return (scores.reshape(-1, 1) > thresholds).mean(0)


def probability_of_improvement(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Chance that a rollout of ours scores more than one of theirs on a task; ties count half.

    Agarwal et al. 2021 (arXiv:2108.13264), section 4.3: the Mann-Whitney statistic of each task,
    averaged.

    Args:
      ours, theirs: float [seed, task, rollout], of the same tasks.
    """
    a, b = (np.moveaxis(x, 1, 0).reshape(x.shape[1], -1) for x in (ours, theirs))
    more = (a[:, :, None] > b[:, None, :]).mean((1, 2))
    same = (a[:, :, None] == b[:, None, :]).mean((1, 2))
    return float((more + same / 2).mean())
