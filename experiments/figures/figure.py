"""What a figure is."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure as MatplotlibFigure

from experiments.figures.panels import draw as draw_panels
from experiments.figures.runs import Results, Run

Panels = Sequence[Mapping[str, Any]]


class Figure(NamedTuple):
    """A figure of the paper.

    Attributes:
      title: what it shows.
      runs: ``runs(preset)``, what it is made of, by name.
      panels: ``panels(results)``, from the results of these runs to what is drawn; see panels.py.
      claims: what the paper says with it, each with ``holds(panels)``; raises nothing where all
        panels are there.
      draw: ``draw(made)``, the picture of what figNN.json holds, a figure of matplotlib.
    """

    title: str
    runs: Callable[[str], Mapping[str, Run]]
    panels: Callable[[Mapping[str, Results]], list[dict[str, Any]]]
    claims: Mapping[str, Callable[[Panels], bool]] = {}
    draw: Callable[[Mapping[str, Any]], MatplotlibFigure] = draw_panels


def find(items: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """The curve, series or panel of a name or title."""
    return next(item for item in items if item.get("name", item.get("title")) == name)


def at(curve: Mapping[str, Any], x: float) -> float:
    """The mean of a curve at a number of steps; its first or last value outside of it."""
    return float(np.interp(x, curve["x"], curve["mean"]))
