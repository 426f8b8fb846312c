"""How much data in-context learning needs: tasks, histories of each, and episodes of a history.

The tasks are random Markov decision processes, of which there are as many as needed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ad_jax.evaluation.statistics import last_tenth
from experiments.figures import presets
from experiments.figures.figure import Figure, Panels, find
from experiments.figures.panels import OF_SCORES, SCORE, point
from experiments.figures.runs import Results, Run

METHODS = ("AD", "DPT")
# For each panel: the config key that varies, and the label of its axis.
AXES = {
    "training tasks": ("tasks.num_train", "number of training tasks"),
    "histories": ("collect.streams", "histories per task"),
    "subsampling": ("train.keep_every", "kept: one episode in"),
}
# The value of each setting while another one varies.
USUAL: dict[str, dict[str, int]] = {
    "smoke": {"training tasks": 16, "histories": 2, "subsampling": 1},
    "cpu": {"training tasks": 1024, "histories": 4, "subsampling": 5},
    "paper": {"training tasks": 8192, "histories": 4, "subsampling": 5},
}
_FEW_AND_MANY = {"histories": (1, 4, 16), "subsampling": (1, 5, 20)}
_TASKS = (16, 64, 1024, 8192, 131_072)
VALUES: dict[str, dict[str, tuple[int, ...]]] = {
    "smoke": {"training tasks": (4, 16), "histories": (1, 2), "subsampling": (1, 2)},
    "cpu": {"training tasks": _TASKS[:-1], **_FEW_AND_MANY},
    "paper": {"training tasks": _TASKS, **_FEW_AND_MANY},
}
TRAINING = "training tasks"


def runs(preset: str):
    """Varies one setting at a time; the others keep their usual values."""
    usual: dict[str, Any] = {AXES[axis][0]: value for axis, value in USUAL[preset].items()}
    usual |= presets.BRIEF[preset]
    return {
        f"{method}, {axis} {value}": _run(preset, usual | {"method": method, AXES[axis][0]: value})
        for method in METHODS
        for axis, values in VALUES[preset].items()
        for value in values
    }


def _run(preset: str, changes: Mapping[str, Any]) -> Run:
    """AD with changes. Runs on few tasks share the histories that are collected for many."""
    most, few = max(VALUES[preset]["training tasks"]), USUAL[preset]["training tasks"]
    usual = changes["collect.streams"] == USUAL[preset]["histories"]
    run = presets.ad(presets.RANDOM_MDP, preset, changes)
    return run._replace(num_train=most if usual else few)


def panels(results: Mapping[str, Results]) -> list[dict[str, Any]]:
    """A panel for each axis: the score of the last tenth of the episodes."""
    made = []
    for axis, (_, label) in AXES.items():
        series = []
        for method in METHODS:
            of_axis = {
                name.removeprefix(f"{method}, {axis} "): found
                for name, found in results.items()
                if name.startswith(f"{method}, {axis} ")
            }
            for name, group in ((method, "heldout"), (f"{method}, {TRAINING}", "train")):
                points = [
                    {"x": x, "value": point(last_tenth(found.normalized(group)).mean(-1)),
                     "paper": None}
                    for x, found in of_axis.items()
                ]  # fmt: skip
                series.append({"name": name, "points": points})
        made.append({
            "kind": "points", "title": axis, "xlabel": label, "xscale": "log", "series": series,
            "ylabel": SCORE, "levels": OF_SCORES,
        })  # fmt: skip
    return made


MORE = 16  # times as much of something


def gained(found: Panels, axis: str) -> np.ndarray:
    """AD's gain on held-out tasks from ``MORE`` times as many tasks or histories; float [seed]."""
    points = find(find(found, axis)["series"], "AD")["points"]
    earned = {int(point["x"]): np.array(point["value"]["by_seed"]) for point in points}
    few = next(x for x in earned if MORE * x in earned)
    return earned[MORE * few] - earned[few]


FIGURE = Figure(
    title="Data needed to learn in context in random decision processes",
    runs=runs,
    panels=panels,
    claims={
        f"{MORE} times as many training tasks improve AD on held-out tasks more than {MORE} times "
        "as many histories per task": lambda found: (
            gained(found, "training tasks") - gained(found, "histories")
        ),
    },
)
