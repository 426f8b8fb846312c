"""Figure 6: AD from one actor a task, every tenth episode: faster than the actor learns itself."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.figures import presets
from experiments.figures.fig04_main import bounds_of
from experiments.figures.figure import Figure, Panels, at, find, least
from experiments.figures.panels import RETURN, curve, source_curve
from experiments.figures.runs import Results

PAPER = ((1e3, 0.99), (5e3, 1.55), (10e3, 1.70), (50e3, 1.82))
PAPER_SOURCE = ((5e3, 0.28), (10e3, 1.21), (50e3, 1.35))


# A learner with a single actor, four episodes between two updates.
_ALONE = {
    "smoke": {"source.ppo.num_streams": 1, "train.keep_every": 2},
    "cpu": {
        "source.ppo.num_streams": 1,
        "source.ppo.rollout_steps": 200,
        "source.ppo.learning_rate": 1e-3,
        "source.ppo.entropy_cost": 0.1,
        "source.ppo.entropy_updates": 250,
        "collect.updates": 250,
        "collect.updates_per_chunk": 10,
        "collect.streams": 1,
        "train.keep_every": 10,
    },
    "paper": {"source.a2c.num_streams": 1, "source.a2c.num_groups": 1, "train.keep_every": 10},
}


def runs(preset: str):
    """One actor for each task."""
    changes = _ALONE[preset]
    return {
        "AD": presets.ad(presets.KEY_TO_DOOR, preset, changes),
        "source": presets.source(presets.KEY_TO_DOOR, preset, changes),
    }


def panels(results: Mapping[str, Results]) -> list[dict[str, Any]]:
    """One panel."""
    ad = results["AD"]
    return [{
        "kind": "curves",
        "title": "Dark Key-to-Door",
        "xlabel": "steps of the environment",
        "ylabel": RETURN,
        "xlim": ad.returns.shape[-1] * ad.episode_steps,
        "curves": [
            curve("AD", ad.of_group(), ad.episode_steps, PAPER),
            source_curve("source", results["source"], 1, PAPER_SOURCE),
        ],
        "levels": bounds_of(ad),
    }]  # fmt: skip


def faster(found: Panels) -> np.ndarray:
    """AD is above the source at every compared number of steps."""
    (panel,) = found
    compared = [part * panel["xlim"] for part in (0.05, 0.1, 0.25, 0.5)]
    curves = [find(panel["curves"], name) for name in ("AD", "source")]
    return least(*(at(curves[0], x) - at(curves[1], x) for x in compared))


FIGURE = Figure(
    title="Distilled from a single actor per task, every tenth episode",
    runs=runs,
    panels=panels,
    claims={"AD learns faster than the source it was distilled from": faster},
)
