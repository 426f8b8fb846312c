"""The parts of a figure, and the verdicts on its claims."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure as MatplotlibFigure

from ad_jax.evaluation.statistics import confidence_interval
from experiments.figures.panels import draw as draw_panels
from experiments.figures.runs import Results, Run

Panels = Sequence[Mapping[str, Any]]
VERDICTS = HOLDS, UNDECIDED, DOES_NOT_HOLD = "holds", "undecided", "does not hold"
MIN_SEEDS = 3  # with fewer training seeds, a claim is undecided


class Figure(NamedTuple):
    """A figure of the paper.

    Attributes:
      title: what it shows.
      runs: ``runs(preset)``, the runs that it needs, by name.
      panels: ``panels(results)``, what is drawn, from the results of these runs; see panels.py.
      claims: the paper's claims about it, each with ``margin(panels)``: float [seed], by how much
        the claim holds for each training seed, positive if it does; None if its panel is missing.
        See ``verdict``.
      sample: what the entries of a margin are, each an independent learner.
      draw: ``draw(made)``, a Matplotlib figure from the contents of figNN.json.
    """

    title: str
    runs: Callable[[str], Mapping[str, Run]]
    panels: Callable[[Mapping[str, Results]], list[dict[str, Any]]]
    claims: Mapping[str, Callable[[Panels], np.ndarray | None]] = {}
    sample: str = "training seeds"
    draw: Callable[[Mapping[str, Any]], MatplotlibFigure] = draw_panels


def find(items: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """The curve, series or panel of a name or title."""
    return next(item for item in items if item.get("name", item.get("title")) == name)


def of_panel(
    title: str, margin: Callable[[Mapping[str, Any]], np.ndarray | None]
) -> Callable[[Panels], np.ndarray | None]:
    """A claim about the panel of a title: ``margin(panel)``."""

    def of_all(panels: Panels) -> np.ndarray | None:
        found = [panel for panel in panels if panel["title"] == title]
        return margin(found[0]) if found else None

    return of_all


def of_panels(
    titles: Iterable[str], margins: Mapping[str, Callable[[Mapping[str, Any]], np.ndarray | None]]
) -> dict[str, Callable[[Panels], np.ndarray | None]]:
    """The same claims about the panels of several titles: each a text and ``margin(panel)``."""
    return {
        f"{title}: {text}": of_panel(title, margin)
        for title in titles
        for text, margin in margins.items()
    }


def at(curve: Mapping[str, Any], x: float) -> np.ndarray:
    """A curve's value at a number of steps, float [seed]; constant beyond its ends."""
    return np.array([np.interp(x, curve["x"], of_seed) for of_seed in curve["by_seed"]])


def last(curve: Mapping[str, Any]) -> np.ndarray:
    """The last tenth of the episodes of a curve, float [seed]."""
    return np.array(curve["final"]["by_seed"])


def least(*margins: np.ndarray) -> np.ndarray:
    """The least of several margins: that of a claim whose parts must all hold."""
    return np.minimum.reduce(np.broadcast_arrays(*margins))


def verdict(margin: np.ndarray) -> dict[str, Any]:
    """The verdict on a claim, from its margin for each training seed.

    Args:
      margin: float [seed], by how much it holds.

    Returns:
      The verdict, the number of seeds, and the margin's mean, 95 % interval and values. It "holds"
      where the interval is above 0, and "does not hold" where it is below. Else, and always with
      fewer than three seeds, it is "undecided".
    """
    low, high = confidence_interval(margin[:, None, None])
    word = HOLDS if low > 0 else DOES_NOT_HOLD if high <= 0 else UNDECIDED
    return {
        "verdict": word if len(margin) >= MIN_SEEDS else UNDECIDED,
        "seeds": len(margin),
        "margin": float(margin.mean()),
        "ci95": [float(low), float(high)],
        "by_seed": margin.tolist(),
    }


def judged(figure: Figure, preset: str, panels: Panels) -> list[dict[str, Any]]:
    """The claims with their verdicts; none for the smoke preset, which measures nothing."""
    if preset == "smoke":
        return []
    margins = {text: margin(panels) for text, margin in figure.claims.items()}
    return [
        {"claim": text, **verdict(margin), "sample": figure.sample}
        for text, margin in margins.items()
        if margin is not None
    ]
