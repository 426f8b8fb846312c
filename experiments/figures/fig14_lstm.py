"""Figure 14: distillation into a transformer and into an LSTM."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.figures import presets
from experiments.figures.fig04_main import bounds_of
from experiments.figures.figure import Figure, Panels, find, last
from experiments.figures.panels import RETURN, STEPS, curve
from experiments.figures.runs import Results

PAPER = {"transformer": 1.89, "LSTM": 1.68}
# The paper's LSTM is 512 wide, with an MLP of twice 256.
LSTM = {"model.core": "lstm", "evaluation.mode": "fast"}
PAPER_SIZE = {**LSTM, "model.hidden": 512, "model.mlp_width": 256}
SMALL = {**LSTM, "model.hidden": 16, "model.mlp_width": 16}


def runs(preset: str):
    """The same data, another model."""
    lstm = {"smoke": SMALL}.get(preset, PAPER_SIZE)
    return {
        "transformer": presets.ad(presets.KEY_TO_DOOR, preset),
        "LSTM": presets.ad(presets.KEY_TO_DOOR, preset, lstm),
    }


def panels(results: Mapping[str, Results]) -> list[dict[str, Any]]:
    """One panel."""
    curves = []
    for name, found in results.items():
        last = found.returns.shape[-1] * found.episode_steps
        curves.append(curve(name, found.of_group(), found.episode_steps, [(last, PAPER[name])]))
    return [{
        "kind": "curves", "title": "Dark Key-to-Door", "xlabel": STEPS,
        "ylabel": RETURN, "curves": curves, "levels": bounds_of(found),
    }]  # fmt: skip


def better(found: Panels) -> np.ndarray:
    """At the end."""
    first, second = (last(find(found[0]["curves"], n)) for n in PAPER)
    return first - second


FIGURE = Figure(
    title="Distillation into a transformer and into an LSTM",
    runs=runs,
    panels=panels,
    claims={"the transformer ends above the LSTM": better},
)
