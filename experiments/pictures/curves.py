"""Curves that every environment has."""

from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

COLORS = {"heldout": "#c0392b", "train": "#2471a3", "even": "#8e44ad", "uniform": "#1e8449"}
LABELS = {"heldout": "held-out tasks", "train": "training tasks"}
SOURCE, BOUND = "#7d8a8c", "#444444"


def learning_curve(summary: dict[str, Any], path: Any) -> None:
    """Return by in-context episode, with its interval, its bounds, and the source's curve.

    Where the reference is not positive, returns are drawn as they are, without interval or bounds.
    """
    scaled = np.isfinite([summary[name]["final"] for name in summary["groups"]]).all()
    shown = "normalized" if scaled else "return"
    figure, axes = plt.subplots(figsize=(7.2, 4.2), dpi=120)
    episode = np.arange(1, summary["episodes"] + 1)
    for name in summary["groups"]:
        split = summary[name]
        label = f"{LABELS.get(name, name)}, in context ({split['tasks']})"
        axes.plot(episode, split[shown], color=COLORS.get(name), label=label)
        if scaled:
            low, high = np.array(split["ci95"]).T
            axes.fill_between(episode, low, high, color=COLORS.get(name), alpha=0.2, lw=0)
    if "source" in summary:
        source = np.array(summary["source"][shown])[: len(episode)]
        axes.plot(
            np.arange(1, len(source) + 1), source, color=SOURCE, ls="--", label="source, one stream"
        )
    if scaled:
        axes.axhline(1, color=BOUND, lw=0.8, ls=":")
        note = dict(textcoords="offset points", color=BOUND, fontsize=8)
        axes.annotate(summary["reference"], (1, 1), (0, 3), **note)
        chance = summary["heldout"]["random_normalized"]
        axes.axhline(chance, color=BOUND, lw=0.8, ls=":")
        axes.annotate("random policy", (summary["episodes"], chance), (0, 3), ha="right", **note)
        axes.set_ylim(0, 1.1)
    axes.set_xlim(1, summary["episodes"])
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("episode")
    axes.set_ylabel(f"return / {summary['reference']}" if scaled else "return")
    axes.set_title(f"{summary['environment']}: learning in context, weights frozen")
    axes.legend(frameon=False, fontsize=9, loc="best")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
