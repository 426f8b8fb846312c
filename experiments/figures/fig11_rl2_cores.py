"""Figure 11: RL² with an LSTM and with a transformer, while it is trained on Dark Room."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ad_jax.evaluation.statistics import across_seeds
from experiments.figures import presets
from experiments.figures.figure import Figure, Panels, find
from experiments.figures.panels import level, rounded
from experiments.figures.runs import Results

# At the end of 1e9 steps; the transformer's peak was 0.866.
PAPER = {"RL2, LSTM": 0.895, "RL2, transformer": 0.796}


def runs(preset: str):
    """Both cores."""
    return {
        "RL2, LSTM": presets.rl2("dark_room", preset),
        "RL2, transformer": presets.rl2("dark_room", preset, "transformer"),
    }


def panels(results: Mapping[str, Results]) -> list[dict[str, Any]]:
    """Return of the last episode of a trial on training tasks; held-out tasks as levels."""
    curves, levels = [], []
    for name, found in results.items():
        c = found.config
        optimum = found.optimum[found.group == "train"].mean()
        last = np.array([[m["last_return"] for m in seed] for seed in found.metrics]) / optimum
        per_update = c.rl2.num_trials * c.rl2.episodes * found.episode_steps
        curves.append({
            "name": name,
            "label": f"{name}, training tasks",
            "x": [int(m["step"]) * per_update for m in found.metrics[0]],
            **{k: rounded(v) for k, v in across_seeds(last[:, None, None]).items()},
            "paper": [],
        })  # fmt: skip
        heldout = level(name, found.normalized()[..., -1])
        levels.append({**heldout, "label": f"{name}, held-out tasks", "paper": PAPER[name]})
    chosen = found.group == "train"
    chance = float(found.chance[chosen].mean() / found.optimum[chosen].mean())
    levels += [{"name": "optimum", "value": 1.0}, {"name": "random", "value": chance}]
    return [{
        "kind": "curves", "title": "Dark Room",
        "xlabel": "steps of the environment in training", "curves": curves, "levels": levels,
        "ylabel": "return / optimum, last episode of a trial",
        "over": "training seeds",
    }]  # fmt: skip


def lstm_is_better(found: Panels) -> np.ndarray:
    """On held-out tasks."""
    first, second = (np.array(find(found[0]["levels"], name)["by_seed"]) for name in PAPER)
    return first - second


FIGURE = Figure(
    title="RL² with either core",
    runs=runs,
    panels=panels,
    claims={"RL² is better with an LSTM than with a transformer": lstm_is_better},
)
