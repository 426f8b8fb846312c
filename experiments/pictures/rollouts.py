"""What animations of rollouts share."""

import numpy as np

from experiments.evaluate import HELDOUT

GIF_EPISODES = 20


def median_task(results: dict[str, np.ndarray], final: np.ndarray) -> int:
    """Index of the held-out task of median final return; ``final`` is float [task]."""
    heldout = np.flatnonzero(results["group"] == HELDOUT)
    return heldout[np.argsort(final[heldout])[len(heldout) // 2]]


def shown_episodes(episodes: int, most: int = GIF_EPISODES) -> np.ndarray:
    """Indices of at most so many episodes, the first and the last among them."""
    return np.unique(np.linspace(0, episodes - 1, min(episodes, most)).round().astype(int))
