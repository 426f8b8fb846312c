"""Panels of figures: what they hold, as JSON, and how they are drawn."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullLocator

from ad_jax.evaluation.statistics import across_seeds, last_tenth
from experiments.figures.runs import Results
from experiments.pictures import style

STEPS, RETURN = "steps of the environment, in context", "return of an episode"
SCORE = "(return − random) / (optimal − random)"
OF_SCORES = [{"name": "optimum", "value": 1.0}, {"name": "random", "value": 0.0}]  # their levels
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
    return {
        "name": name,
        "x": x,
        **{k: rounded(v) for k, v in across_seeds(binned).items()},
        "final": point(last_tenth(values).mean(-1)),
        "final_by_task": rounded(last_tenth(values).mean((0, 2, 3))),
        "paper": [list(p) for p in paper],
    }


def point(values: np.ndarray) -> dict[str, Any]:
    """The mean of float [seed, task, rollout], with its interval and the means by seed."""
    return {k: rounded(v) for k, v in across_seeds(values).items()}


def level(name: str, values: np.ndarray) -> dict[str, Any]:
    """A horizontal line at the mean of float [seed, task, rollout]."""
    found = point(values)
    return {"name": name, "value": found.pop("mean"), **found}


def bins(episodes: int) -> np.ndarray:
    """Edges of bins of episodes, int [bin + 1]: narrow at first, where most is learned."""
    return np.unique(np.round(np.geomspace(1, episodes + 1, _POINTS + 1)).astype(int)) - 1


def source_curve(name: str, results: Results, streams: int, paper: Sequence = ()) -> dict[str, Any]:
    """The source's mean return from scratch, against the steps of ``streams`` streams together."""
    returns = np.array(results.source["mean_return_by_episode"])
    x, mean = _binned(returns, results.episode_steps * streams)
    marks = [list(p) for p in paper]
    return {"name": name, "x": x, "mean": rounded(mean), "by_seed": [rounded(mean)], "paper": marks}


def _binned(values: np.ndarray, steps: int) -> tuple[list[int], np.ndarray]:
    """Steps made at the end of each bin of episodes, and the means within, [..., bin]."""
    pairs = list(itertools.pairwise(bins(values.shape[-1])))
    means = np.stack([values[..., a:b].mean(-1) for a, b in pairs], -1)
    return [int(b) * steps for _, b in pairs], means


def rounded(values: np.ndarray) -> list:
    """An array as nested lists, rounded to four decimals."""
    return np.round(np.asarray(values, float), 4).tolist()


def draw(made: Mapping[str, Any]) -> Figure:
    """Panels side by side, at most four in a row.

    Args:
      made: what figNN.json holds.
    """
    shown = made["panels"]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    size = max(6.4, 4.3 * columns + 0.8), 3.9 * rows
    figure, axes = style.panels(rows, columns, size)
    for ax in axes.flat[len(shown) :]:
        ax.set_visible(False)
    for ax, panel in zip(axes.flat, shown, strict=False):
        KINDS[panel["kind"]](ax, panel)
        ax.set_title(panel["title"], fontsize=10)
        ax.set_xlabel(panel["xlabel"])
        ax.set_ylabel(panel["ylabel"])
    title = textwrap.fill(made["title"], int(11 * figure.get_figwidth()))
    figure.suptitle(title, fontsize=11)
    legend = {name.replace("RL2", "RL²"): h for name, h in style.named(*axes.flat).items()}
    style.explain(figure, _note(made), made["preset"], legend)
    return figure


def _note(made: Mapping[str, Any]) -> str:
    """The explanation below a figure: its bands, seeds, rollouts and open marks."""
    panels, seeds = made["panels"], style.counted(made["seeds"], "training seed")
    if panels[0]["kind"] == "map":
        return "One rollout on one held-out task, by the model of the first training seed."
    rollouts = sorted({run["rollouts"] for run in made["runs"].values() if "rollouts" in run})
    lines = [line for panel in panels for line in (*panel.get("curves", ()), *_points_of(panel))]
    with_interval = ["ci95" in line for line in lines]
    parts = []
    if any(with_interval):
        over = panels[0].get("over", style.sampled(made["seeds"]))
        what = "bands" if panels[0]["kind"] == "curves" else "error bars"
        parts.append(f"Means over tasks; {what}: 95 % interval over {over}.")
        many = " to ".join(str(n) for n in dict.fromkeys((rollouts[0], rollouts[-1])))
        parts.append(f"{seeds}, {many} rollouts of each model on each task.")
    if not all(with_interval):
        parts.append("Sources: means over tasks and streams of one run, no bands.")
    if any(mark is not None for panel in panels for mark in _of_the_paper(panel)):
        parts.append("Open marks: the paper's values, read off its curves.")
    return " ".join(parts)


def _points_of(panel: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [point["value"] for series in panel.get("series", ()) for point in series["points"]]


def _of_the_paper(panel: Mapping[str, Any]) -> list[Any]:
    points = [point["paper"] for s in panel.get("series", ()) for point in s["points"]]
    levels = [level.get("paper") for level in panel.get("levels", ())]
    return [*points, *levels, *(mark for c in panel.get("curves", ()) for mark in c["paper"])]


def _curves(ax: Any, panel: Mapping[str, Any]) -> None:
    """Means with their intervals, and levels across."""
    limit = panel.get("xlim") or max(max(c["x"]) for c in panel["curves"])
    for i, c in enumerate(panel["curves"]):
        drawn = style.number(c["name"], i)
        x, mean = np.array(c["x"]), np.array(c["mean"])
        ax.plot(x, mean, label=c.get("label", c["name"]), **style.line(drawn))
        if "ci95" in c:
            style.band(ax, x, *np.array(c["ci95"]).T, drawn)
        _paper(ax, [p for p in c["paper"] if p[0] <= limit], drawn)
    for level in panel.get("levels", ()):
        if level["name"] in style.OF_NAME:  # the others are bounds
            drawn = style.number(level["name"])
            label = level.get("label", level["name"])
            across = {**style.line(drawn), "ls": (0, (1, 1)), "markevery": [0]}
            ax.plot([0, limit], [level["value"]] * 2, label=label, **across, clip_on=False)
            _paper(ax, [(limit, level["paper"])], drawn)
    scale = panel.get("xscale", "linear")
    ax.set_xscale(scale)
    ax.set_xlim(0 if scale == "linear" else min(c["x"][0] for c in panel["curves"]), limit)
    if limit >= 1e5 or scale == "log":
        ax.xaxis.set_major_formatter(EngFormatter(sep=" "))
    _finish(ax, panel)


def _points(ax: Any, panel: Mapping[str, Any]) -> None:
    """One number for each setting, over an axis of numbers."""
    ax.set_xscale(panel.get("xscale", "linear"))
    for i, series in enumerate(panel["series"]):
        drawn = style.number(series["name"], i)
        x = [float(p["x"]) for p in series["points"]]
        drawing = {**style.line(drawn), "markevery": 1}
        ax.errorbar(x, *_means(series), capsize=3, label=series["name"], **drawing)
        _paper(ax, [(a, p["paper"]) for a, p in zip(x, series["points"], strict=True)
                    if p["paper"] is not None], drawn)  # fmt: skip
    names = dict.fromkeys(p["x"] for s in panel["series"] for p in s["points"])
    ax.set_xticks([float(name) for name in names], names)
    ax.xaxis.set_minor_locator(NullLocator())
    _finish(ax, panel)


def _bars(ax: Any, panel: Mapping[str, Any]) -> None:
    """Groups of bars; the paper's values as marks on them."""
    names = [p["x"] for p in panel["series"][0]["points"]]
    width = 0.8 / len(panel["series"])
    for i, series in enumerate(panel["series"]):
        drawn = style.number(series["name"], i)
        at = np.arange(len(names)) + (i - (len(panel["series"]) - 1) / 2) * width
        mean, errors = _means(series)
        ax.bar(
            at, mean, width * 0.92, yerr=errors, label=series["name"], capsize=2, edgecolor="white",
            color=style.LINES[drawn]["color"], hatch=style.HATCHES[drawn], lw=0,
        )  # fmt: skip
        _paper(ax, [(a, p["paper"]) for a, p in zip(at, series["points"], strict=True)
                    if p["paper"] is not None], drawn, "black")  # fmt: skip
    ax.set_xticks(range(len(names)), names)
    _finish(ax, panel)


def _means(series: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The means of the points, and how far their intervals go below and above, [2, point]."""
    mean = np.array([p["value"]["mean"] for p in series["points"]])
    low, high = np.array([p["value"]["ci95"] for p in series["points"]]).T
    return mean, np.stack([mean - low, high - mean])


def _map(ax: Any, panel: Mapping[str, Any]) -> None:
    """Attention: queries downwards, keys to the right; lines where episodes begin."""
    weights = np.array(panel["weights"])
    image = ax.imshow(weights, norm=PowerNorm(0.5, vmin=0), cmap="cividis", interpolation="nearest")
    for start in panel["starts"]:
        ax.axvline(start - 0.5, color="white", lw=0.5, alpha=0.6)
        ax.axhline(start - 0.5, color="white", lw=0.5, alpha=0.6)
    ax.figure.colorbar(image, ax=ax, shrink=0.75, label="attention weight")


def _paper(ax: Any, marks: Sequence, drawn: int, edge: str = "") -> None:
    """The paper's values: the markers of the line that they belong to, open."""
    if marks:
        x, y = zip(*marks, strict=True)
        shape = {"ls": "", "marker": style.LINES[drawn]["marker"], "ms": 6, "mfc": "white"}
        ax.plot(x, y, mec=edge or style.LINES[drawn]["color"], zorder=3, clip_on=False, **shape)


def _finish(ax: Any, panel: Mapping[str, Any]) -> None:
    levels = {level["name"]: level["value"] for level in panel.get("levels", ())}
    style.bounds(ax, {name: v for name, v in levels.items() if name not in style.OF_NAME})
    ax.set_ylim(bottom=min(0, ax.get_ylim()[0]))


KINDS = {"curves": _curves, "points": _points, "bars": _bars, "map": _map}
