"""Panels of figures: what they hold, as JSON, and how they are drawn."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from ad_jax.evaluation.statistics import across_seeds, last_tenth
from experiments.figures.runs import Results

COLORS = {
    "AD": "#c0392b", "ED": "#2471a3", "RL2": "#1e8449", "source": "#6c7a7d",
    "RL2, LSTM": "#1e8449", "RL2, transformer": "#b9770e",
}  # fmt: skip
CYCLE = ("#c0392b", "#2471a3", "#1e8449", "#b9770e", "#8e44ad", "#17a589", "#7b241c", "#34495e")
_POINTS = 40  # of a curve, at most


def curve(name: str, values: np.ndarray, steps: int, paper: Sequence = ()) -> dict[str, Any]:
    """A curve over in-context steps.

    Args:
      name: its label.
      values: float [seed, task, rollout, episode].
      steps: of an episode.
      paper: (x, y) read off the paper's curve.
    """
    x, binned = _binned(values, steps)
    final = last_tenth(values).mean(-1)
    return {
        "name": name,
        "x": x,
        **{k: rounded(v) for k, v in across_seeds(binned).items()},
        "final": point(values),
        "final_by_seed": rounded(final.mean((1, 2))),
        "final_by_task": rounded(final.mean((0, 2))),
        "paper": [list(p) for p in paper],
    }


def point(values: np.ndarray) -> dict[str, Any]:
    """The last tenth of the episodes of float [seed, task, rollout, episode], as one number."""
    statistics = across_seeds(last_tenth(values).mean(-1, keepdims=True))
    return {k: rounded(v)[0] for k, v in statistics.items()}


def bins(episodes: int) -> np.ndarray:
    """Where bins of episodes begin, and the end: narrow at first, where most is learnt."""
    return np.unique(np.round(np.geomspace(1, episodes + 1, _POINTS + 1)).astype(int)) - 1


def source_curve(name: str, results: Results, streams: int, paper: Sequence = ()) -> dict[str, Any]:
    """The source's mean return from scratch; its steps are those of so many streams together."""
    returns = np.array(results.source["mean_return_by_episode"])
    x, mean = _binned(returns, results.episode_steps * streams)
    return {"name": name, "x": x, "mean": rounded(mean), "paper": [list(p) for p in paper]}


def _binned(values: np.ndarray, steps: int) -> tuple[list[int], np.ndarray]:
    """Steps made at the end of each bin of episodes, and the means within, [..., bin]."""
    pairs = list(itertools.pairwise(bins(values.shape[-1])))
    means = np.stack([values[..., a:b].mean(-1) for a, b in pairs], -1)
    return [int(b) * steps for _, b in pairs], means


def rounded(values: np.ndarray) -> list:
    """As lists of short numbers."""
    return np.round(np.asarray(values, float), 4).tolist()


def draw(panels: Sequence[Mapping[str, Any]], title: str, path: Any) -> None:
    """Draws panels side by side, at most four in a row."""
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    size = max(6.4, 4.3 * columns + 0.8), 3.8 * rows
    figure, axes = plt.subplots(rows, columns, figsize=size, dpi=100, squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, panel in zip(axes.flat, panels, strict=False):
        KINDS[panel["kind"]](ax, panel)
        ax.set_title(panel["title"], fontsize=11)
        ax.set_xlabel(panel["xlabel"])
        ax.set_ylabel(panel["ylabel"])
    figure.suptitle(textwrap.fill(title, 52 * columns), fontsize=12)
    handles = {h.get_label(): h for ax in axes.flat for h in ax.get_legend_handles_labels()[0]}
    lines = 0
    if handles:
        if any(getattr(ax, "paper", False) for ax in axes.flat):
            handles["the paper"] = plt.Line2D([], [], ls="", marker="x", color="gray", alpha=0.7)
        across = min(len(handles), max(4, 3 * columns))
        figure.legend(
            handles.values(), handles, loc="lower center", ncols=across, frameon=False, fontsize=9
        )
        lines = -(-len(handles) // across)
    figure.tight_layout(rect=(0, 0.06 * lines / rows, 1, 1))
    figure.savefig(path)
    plt.close(figure)


def _curves(ax: Any, panel: Mapping[str, Any]) -> None:
    """Mean ± a standard deviation; the paper's values as faint marks; levels as dashed lines."""
    limit = panel.get("xlim") or max(max(c["x"]) for c in panel["curves"])
    for i, c in enumerate(panel["curves"]):
        color = c.get("color") or COLORS.get(c["name"], CYCLE[i % len(CYCLE)])
        x, mean = np.array(c["x"]), np.array(c["mean"])
        ax.plot(x, mean, color=color, label=c["name"], lw=1.6, ls=c.get("style", "-"))
        if "std" in c:
            std = np.array(c["std"])
            ax.fill_between(x, mean - std, mean + std, color=color, alpha=0.18, lw=0)
        _paper(ax, [p for p in c["paper"] if p[0] <= limit], color)
    for level in panel.get("levels", ()):
        if level["name"] not in COLORS:  # a bound
            ax.axhline(level["value"], color="#444444", ls=":", lw=0.8)
            ax.annotate(level["name"], (limit, level["value"]), (0, 2), ha="right", fontsize=8,
                        textcoords="offset points", color="#444444")  # fmt: skip
            continue
        color = COLORS[level["name"]]
        ax.axhline(level["value"], color=color, ls="--", lw=1.4, label=level["name"])
        _paper(ax, [(limit, level["paper"])], color)
    ax.set_xlim(0, limit)
    _finish(ax)


def _points(ax: Any, panel: Mapping[str, Any]) -> None:
    """One number for each setting, over a category axis."""
    names = list(dict.fromkeys(p["x"] for s in panel["series"] for p in s["points"]))
    for i, series in enumerate(panel["series"]):
        color = COLORS.get(series["name"], CYCLE[i % len(CYCLE)])
        at = [names.index(p["x"]) for p in series["points"]]
        mean, std = ([p["value"][k] for p in series["points"]] for k in ("mean", "std"))
        ax.errorbar(at, mean, std, color=color, marker="o", ms=4, capsize=3, label=series["name"])
        _paper(ax, [(a, p["paper"]) for a, p in zip(at, series["points"], strict=True)
                    if p["paper"] is not None], color)  # fmt: skip
    ax.set_xticks(range(len(names)), names)
    _finish(ax)


def _bars(ax: Any, panel: Mapping[str, Any]) -> None:
    """Groups of bars; the paper's values as marks on them."""
    names = [p["x"] for p in panel["series"][0]["points"]]
    width = 0.8 / len(panel["series"])
    for i, series in enumerate(panel["series"]):
        color = COLORS.get(series["name"], CYCLE[i % len(CYCLE)])
        at = np.arange(len(names)) + (i - (len(panel["series"]) - 1) / 2) * width
        mean, std = ([p["value"][k] for p in series["points"]] for k in ("mean", "std"))
        ax.bar(at, mean, width * 0.92, yerr=std, color=color, label=series["name"], capsize=2)
        _paper(ax, [(a, p["paper"]) for a, p in zip(at, series["points"], strict=True)
                    if p["paper"] is not None], "black")  # fmt: skip
    ax.set_xticks(range(len(names)), names)
    ax.axhline(0, color="black", lw=0.8)
    _finish(ax)


def _map(ax: Any, panel: Mapping[str, Any]) -> None:
    """Attention: queries downwards, keys to the right; lines where episodes begin."""
    ax.imshow(np.array(panel["weights"]) ** 0.5, cmap="magma", interpolation="nearest")
    for start in panel["starts"]:
        ax.axvline(start - 0.5, color="white", lw=0.5, alpha=0.6)
        ax.axhline(start - 0.5, color="white", lw=0.5, alpha=0.6)


def _paper(ax: Any, marks: Sequence, color: str) -> None:
    if marks:
        x, y = zip(*marks, strict=True)
        ax.plot(x, y, ls="", marker="x", color=color, alpha=0.5, ms=6, zorder=3, clip_on=False)
        ax.paper = True


def _finish(ax: Any) -> None:
    ax.set_ylim(bottom=min(0, ax.get_ylim()[0]))
    ax.spines[["top", "right"]].set_visible(False)


KINDS = {"curves": _curves, "points": _points, "bars": _bars, "map": _map}
