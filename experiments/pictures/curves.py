"""Curves that every environment has."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.pictures import style
from experiments.stages import evaluate

LABELS = {group: f"{name} tasks" for group, name in evaluate.LABELS.items()}


def learning_curve(summary: dict[str, Any]) -> Figure:
    """Return by in-context episode, with its interval, its bounds, and the source's curve.

    Where the reference is not positive, returns are drawn as they are, without interval or bounds.
    """
    scaled = np.isfinite([summary[name]["final"] for name in summary["groups"]]).all()
    shown = "normalized" if scaled else "return"
    figure, [[axes]] = style.panels(1, 1, (7.2, 4.2))
    episode = np.arange(1, summary["episodes"] + 1)
    for i, name in enumerate(summary["groups"]):
        split, drawn = summary[name], style.number(name, i)
        label = f"{LABELS.get(name, name)}, in context ({split['tasks']})"
        axes.plot(episode, split[shown], label=label, **style.line(drawn))
        if scaled:
            style.band(axes, episode, *np.array(split["ci95"]).T, drawn)
    if "source" in summary:
        source = np.array(summary["source"][shown])[: len(episode)]
        axes.plot(
            np.arange(1, len(source) + 1), source, label="source, one stream",
            **style.line(style.number("source, one stream")),
        )  # fmt: skip
    if scaled:
        chance = summary[summary["groups"][0]]["random_normalized"]
        style.bounds(axes, {summary["reference"]: 1, "random policy": chance})
        axes.set_ylim(min(0, axes.get_ylim()[0]), 1.1)
    axes.set_xlim(1, max(2, summary["episodes"]))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("episode in context")
    axes.set_ylabel(summary["unit"] if scaled else "episode return")
    axes.set_title(f"{summary['environment']}: learning in context, weights frozen")
    text = f"Lines: means over tasks and {sample(summary)}."
    if scaled:
        text += f" Bands: 95 % interval over {summary['intervals_over']}."
    style.explain(figure, text, summary["preset"], style.named(axes))
    return figure


def source_curve(summary: dict[str, Any]) -> Figure:
    """How the source learned: the return of each episode of its histories, over tasks.

    A model can only distil gradual improvement: the change from failure to success has to be
    visible within the contexts that it is trained on.
    """
    source = summary["source"]
    figure, [[axes]] = style.panels(1, 1, (7.2, 4.2))
    low, middle, high = np.array(source["return_quantiles"]).T
    episode, drawn = np.arange(1, len(middle) + 1), style.number("source")
    axes.plot(episode, source["return"], label="mean", **style.line(drawn))
    style.band(axes, episode, low, high, drawn)
    axes.plot(episode, middle, label="median", color=style.BOUND, lw=1)
    axes.set_xlim(1, max(2, len(middle)))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("episode of a stream")
    axes.set_ylabel("episode return")
    axes.set_title(f"{summary['environment']}: what {source['name']} learned on the training tasks")
    text = "Means over the streams of each task. Band: all but the worst and best tenths of tasks."
    style.explain(figure, text, summary["preset"], style.named(axes))
    return figure


def sample(summary: dict[str, Any], what: str = "rollout") -> str:
    """How many rollouts, or windows, of how many models a mean is taken over."""
    each = style.counted(summary[f"{what}s_per_task"], what)
    seeds = style.counted(len(summary["seeds"]), "training seed")
    return f"{each} of each task by each model ({seeds})"
