"""How much data in-context learning needs: tasks, histories of each, and episodes of a history.

The tasks are random Markov decision processes, of which there are as many as needed.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ad_jax.evaluation.statistics import last_tenth
from experiments.figures import presets
from experiments.figures.figure import Figure, Panels, find
from experiments.figures.panels import OF_SCORES, SCORE, point
from experiments.figures.runs import Results, Run


class Data(NamedTuple):
    """What a model is trained on.

    Attributes:
      tasks: number of training tasks.
      histories: of each task.
      every: one episode in so many is kept.
    """

    tasks: int
    histories: int
    every: int

    def __str__(self) -> str:
        return f"{self.tasks} tasks, {self.histories} histories each, one episode in {self.every}"


USUAL = {"smoke": Data(16, 2, 1), "cpu": Data(1024, 4, 5), "paper": Data(8192, 4, 5)}
_MANY = (16, 64, 256, 1024, 8192, 131_072)
# The values of each setting, while the others are as usual.
VALUES: dict[str, dict[str, tuple[int, ...]]] = {
    "smoke": {"tasks": (4, 8, 16), "histories": (1, 2), "every": (1, 2)},
    "cpu": {"tasks": _MANY, "histories": (1, 4, 16), "every": (1, 2, 5, 10)},
    "paper": {"tasks": _MANY, "histories": (1, 4, 16), "every": (1, 2, 5, 10)},
}
# The title of each panel, and the label of its axis.
LABELS = {
    "tasks": ("training tasks", "number of training tasks"),
    "histories": ("histories", "histories per task"),
    "every": ("subsampling", "kept: one episode in"),
}
# More than in the arena: the more tasks there are, the longer it takes to see them.
_UPDATES: dict[str, dict[str, Any]] = {"smoke": {}, "cpu": {"train.steps": 2000}, "paper": {}}
GROUPS = {"heldout": "held-out tasks", "train": "training tasks"}


def lines(preset: str) -> dict[str, dict[str, list[Data]]]:
    """The lines of each panel: what its models are trained on.

    The histories are also varied on fewer tasks: with the most histories on these, a model has as
    much data as with one history on the usual number of tasks.
    """
    usual, values = USUAL[preset], VALUES[preset]
    made = {
        setting: {"": [usual._replace(**{setting: value}) for value in of_setting]}
        for setting, of_setting in values.items()
    }
    few = usual.tasks // max(values["histories"])
    made["histories"][f", trained on {few}"] = [
        Data(few, histories, usual.every) for histories in values["histories"]
        if histories >= usual.histories
    ]  # fmt: skip
    return made


def runs(preset: str):
    """AD on every amount of data."""
    return {
        str(data): _run(preset, data)
        for of_panel in lines(preset).values()
        for of_line in of_panel.values()
        for data in of_line
    }


def _run(preset: str, data: Data) -> Run:
    """AD on some data. Few tasks, and few histories, are a part of those collected for many."""
    usual, values = USUAL[preset], VALUES[preset]
    own = {"collect.streams": usual.histories}
    most = max(values["tasks"])
    if data.histories != usual.histories:
        most = usual.tasks
        own = {"collect.streams": max(values["histories"]), "train.keep_streams": data.histories}
    sizes = {"tasks.num_train": data.tasks, "train.keep_every": data.every}
    run = presets.ad(presets.RANDOM_MDP, preset, _UPDATES[preset] | own | sizes)
    return run._replace(num_train=most)


def panels(results: Mapping[str, Results]) -> list[dict[str, Any]]:
    """A panel for each setting: the score of the last tenth of the episodes."""
    preset = next(iter(results.values())).config.preset
    return [
        {
            "kind": "points", "title": LABELS[setting][0], "xlabel": LABELS[setting][1],
            "xscale": "log", "ylabel": SCORE, "levels": OF_SCORES,
            "series": [
                {"name": label + name, "points": [
                    _point(getattr(data, setting), results[str(data)], group) for data in of_line
                ]}
                for name, of_line in of_panel.items()
                for group, label in GROUPS.items()
            ],
        }
        for setting, of_panel in lines(preset).items()
    ]  # fmt: skip


def _point(x: int, found: Results, group: str) -> dict[str, Any]:
    value = point(last_tenth(found.normalized(group)).mean(-1))
    return {"x": f"{x}", "value": value, "paper": None}


def score(found: Panels, setting: str, line: str, x: int) -> np.ndarray:
    """The score on held-out tasks of a line at a value of its setting; float [seed]."""
    points = find(find(found, LABELS[setting][0])["series"], GROUPS["heldout"] + line)["points"]
    return next(np.array(p["value"]["by_seed"]) for p in points if p["x"] == f"{x}")


def _more_tasks(found: Panels) -> np.ndarray:
    return score(found, "tasks", "", 1024) - score(found, "tasks", "", 64) - 0.2


def _tasks_before_histories(found: Panels) -> np.ndarray:
    names = [series["name"] for series in find(found, LABELS["histories"][0])["series"]]
    few = next(name for name in names if name.startswith(f"{GROUPS['heldout']}, "))
    line = few.removeprefix(GROUPS["heldout"])
    return score(found, "histories", "", 1) - score(found, "histories", line, 16) - 0.1


FIGURE = Figure(
    title="Data needed to learn in context in random decision processes",
    runs=runs,
    panels=panels,
    claims={
        "more training tasks help: with 1024 the score on held-out tasks is at least 0.2 higher "
        "than with 64": _more_tasks,
        "of the same amount of data, many tasks are worth more than many histories: the score with "
        "one history each is at least 0.1 higher than with 16 each of a sixteenth of the tasks": (
            _tasks_before_histories
        ),
    },
)
