"""Figure 9: learning curves of the sources."""

from collections.abc import Mapping
from typing import Any

from experiments.figures import presets
from experiments.figures.fig04_main import SHOWN, TITLES, bounds_of
from experiments.figures.figure import Figure, Panels
from experiments.figures.panels import RETURN, source_curve
from experiments.figures.runs import Results

# (steps summed over all actors, return)
PAPER = {
    "Dark Room": ((1e5, 9.3), (2e5, 16.1), (1e6, 16.9)),
    "Dark Room Hard": ((1e6, 0.96),),
    "Dark Key-to-Door": ((1e5, 1.0), (1e6, 1.51), (5e6, 1.83)),
    "Watermaze": ((1e5, 1.0),),
}
_LEARNT = {"Dark Room": 15, "Dark Room Hard": 0.8, "Dark Key-to-Door": 1.8, "Watermaze": 0.8}


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
        })  # fmt: skip
    return made


def learns(found: Panels) -> bool:
    """The sources end at nine tenths of what the paper's end at, or near it."""
    return all(p["curves"][0]["mean"][-1] > _LEARNT[p["title"]] for p in found)


FIGURE = Figure(
    title="The sources, from scratch on the held-out tasks",
    runs=runs,
    panels=panels,
    claims={"the sources learn every environment": learns},
)
