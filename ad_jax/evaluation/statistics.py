"""Returns of episodes, and intervals over rollouts and training seeds."""

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


def confidence_interval(values: np.ndarray) -> np.ndarray:
    """95 % confidence interval of the mean, over a sample of training seeds, tasks and rollouts.

    The variance of the mean is that of the seeds' means plus that of the tasks' means, less the
    part counted in both: a two-way analysis of variance with random effects. Student's t has the
    degrees of freedom that Satterthwaite (1946) gives for such a sum. Bootstrap intervals would be
    too narrow: with three seeds, even the whole range contains the mean in only three of four
    cases.

    With one seed, the interval is about this trained model, not about the method.

    Args:
      values: float [seed, task, rollout, ...].

    Returns:
      float [..., 2]: low and high; both are the mean where there is one value.
    """
    seeds, tasks, rollouts = values.shape[:3]
    cell = values.mean(2)
    of_seed, of_task, mean = cell.mean(1), cell.mean(0), cell.mean((0, 1))
    none = np.zeros_like(mean)
    # Each part of the variance of the mean, and its degrees of freedom.
    by_seed = (of_seed.var(0, ddof=1) / seeds, seeds - 1) if seeds > 1 else (none, 1)
    by_task = (of_task.var(0, ddof=1) / tasks, tasks - 1) if tasks > 1 else (none, 1)
    both = none, 1
    if seeds > 1 and tasks > 1:
        freedom = (seeds - 1) * (tasks - 1)
        rest = cell - of_seed[:, None] - of_task[None] + mean
        both = (rest**2).sum((0, 1)) / (freedom * seeds * tasks), freedom
    elif seeds == tasks == 1 and rollouts > 1:
        by_task = values.var((0, 1, 2), ddof=1) / rollouts, rollouts - 1
    parts = by_seed, by_task, both
    # At least the variance from seeds alone, or from tasks alone.
    variance = np.maximum(by_seed[0] + by_task[0] - both[0], np.maximum(by_seed[0], by_task[0]))
    spread = sum(part**2 / freedom for part, freedom in parts)
    freedom = np.divide(variance**2, spread, out=np.ones_like(mean), where=spread > 0)
    half = stats.t.ppf(0.975, np.maximum(freedom, 1)) * np.sqrt(variance)
    return np.stack([mean - half, mean + half], -1)


def by_task(values: np.ndarray) -> np.ndarray:
    """[seed, task, rollout, point] as [task, seed * rollout, point], the first seed's first."""
    return np.concatenate(values, axis=1)


def across_seeds(values: np.ndarray) -> dict[str, np.ndarray]:
    """Summary over tasks, rollouts and training seeds.

    Args:
      values: float [seed, task, rollout, point].

    Returns:
      ``mean`` [point], its ``ci95`` [point, 2], see ``confidence_interval``, and ``by_seed``
      [seed, point].
    """
    return {
        "mean": values.mean((0, 1, 2)),
        "ci95": confidence_interval(values),
        "by_seed": values.mean((1, 2)),
    }


def performance_profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Which scores are above each threshold; their mean is the performance profile.

    Agarwal et al. 2021 (arXiv:2108.13264), section 4.2. Their runs are training seeds, whose scores
    are means over rollouts: give a single rollout, the mean.

    Args:
      scores: float [seed, task, rollout].
      thresholds: float [point].

    Returns:
      float [seed, task, rollout, point], 0 or 1.
    """
    return (scores[..., None] > thresholds).astype(float)


def improvement(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """For each of our scores, the fraction of theirs on the same task that it beats.

    Ties count half.

    The mean is the probability of improvement of Agarwal et al. 2021 (arXiv:2108.13264), section
    4.3: the Mann-Whitney statistic of each task, averaged. As there, give means over rollouts.

    Args:
      ours, theirs: float [seed, task, rollout], of the same tasks.

    Returns:
      float, of the shape of ours.
    """
    others = np.moveaxis(theirs, 1, 0).reshape(theirs.shape[1], -1)[
        None, :, None
    ]  # [1, task, 1, n]
    mine = ours[..., None]
    return ((mine > others) + (mine == others) / 2).mean(-1)
