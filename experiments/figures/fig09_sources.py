"""Figure 9: learning curves of the sources."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.figures import presets
from experiments.figures.fig04_main import SHOWN, TITLES, bounds_of
from experiments.figures.figure import Figure, of_panels
from experiments.figures.panels import RETURN, rounded, source_curve
from experiments.figures.runs import Results

# (steps summed over all actors, return)
PAPER = {
    "Dark Room": ((1e5, 9.3), (2e5, 16.1), (1e6, 16.9)),
    "Dark Room Hard": ((1e6, 0.96),),
    "Dark Key-to-Door": ((1e5, 1.0), (1e6, 1.51), (5e6, 1.83)),
    "Watermaze": ((1e5, 1.0),),
}
LEARNT = 0.8  # of the optimal return


def runs(preset: str):
    """The same as in figure 4."""
    return {TITLES[name]: presets.source(name, preset) for name in SHOWN[preset]}


def panels(results: Mapping[str, Results]) -> list[dict[str, Any]]:
    """One for each environment; steps are summed over the actors of a task."""
    made = []
    for title, found in results.items():
        chosen = found.config.source
        line = source_curve("source", found, chosen[chosen.name].num_streams, PAPER[title])
        made.append({
            "kind": "curves", "title": title, "ylabel": RETURN,
            "xlabel": "steps of the environment, of all actors", "levels": bounds_of(found),
            "curves": [{**line, "name": chosen.name}],
            "final_by_task": rounded(np.array(found.source["final_return_by_task"])),
            "optimum_by_task": rounded(found.optimum[found.group == "heldout"]),
        })  # fmt: skip
    return made


def learns(panel: Mapping[str, Any]) -> np.ndarray:
    """The margin of each task: each has a learner of its own, so tasks are the sample."""
    return np.array(panel["final_by_task"]) / np.array(panel["optimum_by_task"]) - LEARNT


FIGURE = Figure(
    title="The sources, learning the held-out tasks from scratch",
    runs=runs,
    panels=panels,
    claims=of_panels(
        TITLES.values(), {f"the source ends at {LEARNT} of the optimum or above": learns}
    ),
    sample="held-out tasks",
)
