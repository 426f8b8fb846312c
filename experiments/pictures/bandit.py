"""Pictures of a bandit: regret by pull."""

from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from experiments.pictures.curves import BOUND, COLORS, LABELS


def draw(env: Any, params: Any, results: dict, reference: np.ndarray, folder: Any) -> list[str]:
    """Writes regret.png; returns its name."""
    del env, reference
    regret(results, np.asarray(params.probability), folder / "regret.png")
    return ["regret.png"]


def regret(results: dict[str, np.ndarray], probability: np.ndarray, path: Any) -> None:
    """Cumulative regret of the model, of its source and of random pulls, by group of tasks.

    Args:
      results: of the stage "evaluate", and source_reward, float [task, time], the mean reward of
        the source on the same tasks.
      probability: float [task, arms].
      path: of the picture.
    """
    groups = list(dict.fromkeys(results["group"].tolist()))
    figure, panels = plt.subplots(
        1, len(groups), figsize=(3.6 * len(groups), 3.6), dpi=110, sharey=True, squeeze=False
    )
    source_reward = results["source_reward"]
    pull = np.arange(1, source_reward.shape[1] + 1)
    for axes, name in zip(panels[0], groups, strict=True):
        chosen = results["group"] == name
        best = probability[chosen].max(-1, keepdims=True)
        curve = lambda reward, best=best: (best - reward).mean(0).cumsum()
        axes.plot(pull, curve(results["mean_reward"][chosen]), color=COLORS.get(name), label="AD")
        axes.plot(pull, curve(source_reward[chosen]), color=BOUND, ls="--", label="its source")
        chance = np.repeat(probability[chosen].mean(-1, keepdims=True), len(pull), 1)
        axes.plot(pull, curve(chance), color=BOUND, ls=":", lw=1, label="random pulls")
        axes.set_title(LABELS.get(name, f"{name} arms pay"), fontsize=10)
        axes.set_xlabel("pull")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("cumulative regret")
    panels[0][0].legend(frameon=False, fontsize=9)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
