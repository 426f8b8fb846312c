"""What animations of rollouts share."""

import numpy as np

from experiments.evaluate import HELDOUT

GIF_EPISODES = 12


def median_task(results: dict[str, np.ndarray], final: np.ndarray) -> int:
    """Index of the held-out task of median final return; ``final`` is float [task]."""
    heldout = np.flatnonzero(results["group"] == HELDOUT)
    return heldout[np.argsort(final[heldout])[len(heldout) // 2]]


def shown_episodes(episodes: int, most: int = GIF_EPISODES) -> np.ndarray:
    """Indices of at most so many episodes, most of them early, where most is learnt."""
    if episodes <= most:
        return np.arange(episodes)
    return np.unique(np.geomspace(1, episodes, most).round().astype(int)) - 1
