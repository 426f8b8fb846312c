"""Data efficiency: how many steps of a new task AD needs, and how many its source."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.figures import presets
from experiments.figures.fig04_main import SHOWN, TITLES
from experiments.figures.figure import Figure, at, find, of_panels
from experiments.figures.panels import STEPS, curve, rounded, source_curve
from experiments.figures.runs import Results

PART = 0.8  # of the optimal return
EVERY = "AD, every episode"  # if the preset trains on only some of the source's episodes
STREAM, ACTORS = "source, one stream", "source"


def runs(preset: str):
    """AD and the source as in figure 4, and AD trained on every episode of the histories."""
    made = {}
    for environment in SHOWN[preset]:
        title, ad = TITLES[environment], presets.ad(environment, preset)
        made[f"{title}, AD"] = ad
        if ad.config.train.keep_every > 1:
            made[f"{title}, {EVERY}"] = presets.ad(environment, preset, {"train.keep_every": 1})
        made[f"{title}, source"] = presets.source(environment, preset)
    return made


def panels(results: Mapping[str, Results]) -> list[dict[str, Any]]:
    """One for each environment, with a logarithmic axis of steps."""
    made = []
    for title in TITLES.values():
        if f"{title}, AD" not in results:
            continue
        found = {name: results.get(f"{title}, {name}") for name in ("AD", EVERY)}
        source = results[f"{title}, source"]
        optimum = source.optimum[source.group == "heldout"].mean()
        curves = [
            curve(name, of.of_group() / optimum, of.episode_steps)
            for name, of in found.items()
            if of is not None
        ]
        chosen = source.config.source
        for name, streams in ((ACTORS, chosen[chosen.name].num_streams), (STREAM, 1)):
            line = source_curve(name, source, streams)
            mean = rounded(np.array(line["mean"]) / optimum)
            curves.append({**line, "mean": mean, "by_seed": [mean]})
        made.append({
            "kind": "curves", "title": title, "xlabel": STEPS, "xscale": "log",
            "ylabel": "mean return / mean optimal return", "curves": curves,
            "levels": [{"name": f"{100 * PART:.0f} %", "value": PART}],
            "reached": {c["name"]: reached(c) for c in curves},
            "optimal_return": round(float(optimum), 4),
            "episode_steps": source.episode_steps,
        })  # fmt: skip
    return made


def reached(line: Mapping[str, Any]) -> list[float | None]:
    """Steps until a curve first reaches ``PART``, for each seed; None if it never does."""
    steps = []
    for values in line["by_seed"]:
        above = np.flatnonzero(np.array(values) >= PART)
        if not len(above):
            steps.append(None)
            continue
        i = max(above[0], 1)
        (x0, x1), (y0, y1) = line["x"][i - 1 : i + 1], values[i - 1 : i + 1]
        steps.append(float(x0 if y0 >= PART else np.interp(PART, (y0, y1), (x0, x1))))
    return steps


def sooner(name: str):
    """How far AD is above ``PART`` after as many steps as its source needs to reach it."""

    def margin(panel: Mapping[str, Any]) -> np.ndarray:
        ad, source = (find(panel["curves"], n) for n in ("AD", name))
        (steps,) = reached(source)
        return at(ad, source["x"][-1] if steps is None else steps) - PART

    return margin


CLAIMS = {
    "AD needs fewer steps to 80 % of the optimum than all actors of its source together": (
        sooner(ACTORS)
    ),
    "AD needs fewer steps than a single stream of its source": sooner(STREAM),
}

FIGURE = Figure(
    title="Data efficiency: steps in a new task until 80 % of the optimum",
    runs=runs,
    panels=panels,
    claims=of_panels(TITLES.values(), CLAIMS),
)
