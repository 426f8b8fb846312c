"""Pictures of a bandit: regret by pull."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.pictures import style
from experiments.pictures.curves import LABELS, sample


def draw(
    env: Any, params: Any, results: dict, reference: np.ndarray, summary: dict, folder: Any
) -> list[str]:
    """Writes regret.png and its PDF; returns their names."""
    del env, reference
    figure = regret(results, np.asarray(params.probability), summary)
    return style.save(figure, folder / "regret.png")


def regret(
    results: dict[str, np.ndarray], probability: np.ndarray, summary: dict[str, Any]
) -> Figure:
    """Cumulative regret of the model, of its source and of random pulls, by group of tasks.

    Args:
      results: of the stage "evaluate", and source_reward, float [task, time], the mean reward of
        the source on the same tasks.
      probability: float [task, arms].
      summary: of the run.
    """
    groups = list(dict.fromkeys(results["group"].tolist()))
    figure, panels = style.panels(1, len(groups), (3.4 * len(groups), 3.6), sharey=True)
    source_reward = results["source_reward"]
    of_models = results["mean_reward"]  # in its older form without an axis of models
    mean_reward = of_models.reshape(-1, *of_models.shape[-2:]).mean(0)
    pull = np.arange(1, source_reward.shape[1] + 1)
    for axes, name in zip(panels[0], groups, strict=True):
        chosen = results["group"] == name
        best = probability[chosen].max(-1, keepdims=True)
        chance = np.repeat(probability[chosen].mean(-1, keepdims=True), len(pull), 1)
        drawn = {
            summary["method"]: mean_reward[chosen],
            "source": source_reward[chosen],
            "random pulls": chance,
        }
        for i, (who, reward) in enumerate(drawn.items()):
            curve = (best - reward).mean(0).cumsum()
            label = "its source" if who == "source" else who
            axes.plot(pull, curve, label=label, **style.line(style.number(who, i + 1)))
        title = LABELS.get(name, f"{name} arms pay")
        axes.set_title(f"{title} ({chosen.sum()})", fontsize=10)
        axes.set_xlabel("pull")
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(f"{summary['environment']}: regret, weights frozen", fontsize=11)
    panels[0][0].set_ylabel("cumulative regret (reward)")
    style.explain(
        figure,
        f"Lines: means over tasks (their number: in brackets) and {sample(summary)}; no intervals. "
        "Regret: the mean reward of the best arm minus the reward received.",
        summary["preset"],
        style.named(panels[0][0]),
    )
    return figure
