"""What animations of rollouts share."""

import numpy as np

from ad_jax.evaluation.statistics import last_tenth
from experiments.stages.evaluate import is_tested

GIF_EPISODES = 12


def median_task(results: dict[str, np.ndarray], reference: np.ndarray) -> int:
    """Index of the tested task whose first rollout, the one that is drawn, ends at the median.

    Args:
      results: of the stage "evaluate".
      reference: float [task], what returns are divided by.
    """
    final = last_tenth(results["returns"][:, 0]).mean(-1) / reference
    tested = np.flatnonzero(is_tested(results["group"]))
    return tested[np.argsort(final[tested])[len(tested) // 2]]


def episode_ends(results: dict[str, np.ndarray], task: int) -> np.ndarray:
    """The ends of a task's evaluated episodes, int [episode]: steps of the rollout, exclusive.

    The rollout has more episodes than were asked for if episodes end before their step limit.
    """
    episodes = results["returns"].shape[-1]
    return np.flatnonzero(results["is_last"][task])[:episodes] + 1


def shown_episodes(episodes: int, most: int = GIF_EPISODES) -> np.ndarray:
    """Indices of at most so many episodes, most of them early, where most is learnt."""
    if episodes <= most:
        return np.arange(episodes)
    return np.unique(np.geomspace(1, episodes, most).round().astype(int)) - 1
