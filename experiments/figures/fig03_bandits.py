"""Figure 3: bandits whose odd arms pay in training, and other arms in the tests."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ad_jax import build
from ad_jax.evaluation import bounds
from experiments.figures import presets
from experiments.figures.figure import Figure, Panels, find, least
from experiments.figures.panels import point
from experiments.figures.runs import Results
from experiments.stages import evaluate

GROUPS = {"odd": evaluate.HELDOUT, "even": "even", "uniform": "uniform"}
PAPER = {
    "AD": (0.99, 0.83, 0.87),
    "RL2, LSTM": (1.05, -0.48, 0.83),
    "RL2, transformer": (0.95, -0.29, 0.70),
    "ED": (0.48, -0.48, 0.01),
}
_SOURCE_TRIALS = 32


def runs(preset: str):
    """AD, RL² with both cores, and ED."""
    environment = presets.BANDIT
    return {
        "AD": presets.ad(environment, preset),
        "RL2, LSTM": presets.rl2(environment, preset),
        "RL2, transformer": presets.rl2(environment, preset, "transformer"),
        "ED": presets.ed(environment, preset),
    }


def panels(results: Mapping[str, Results]) -> list[dict[str, Any]]:
    """(r - r_random) / (r_UCB - r_random), means over bandits taken first."""
    config = results["AD"].config
    world = build.world(config)
    tasks = evaluate.evaluation_tasks(world, config.evaluation.tasks, config.evaluation.train_tasks)
    source = bounds.source_rewards(
        build.source(config, world.env), build.key(config, "report"), tasks.params, _SOURCE_TRIALS
    ).sum(-1)
    series = []
    for name, printed in PAPER.items():
        points = []
        for (label, group), paper in zip(GROUPS.items(), printed, strict=True):
            chosen = tasks.group == group
            low, high = results[name].chance[chosen].mean(), source[chosen].mean()
            score = (results[name].of_group(group) - low) / (high - low)
            points.append({"x": label, "value": point(score.mean(-1)), "paper": paper})
        series.append({"name": name, "points": points})
    return [{
        "kind": "bars", "title": "Adversarial bandit", "series": series,
        "xlabel": "arms that pay in the test", "ylabel": "(return − random) / (UCB − random)",
        "levels": [{"name": "UCB", "value": 1.0}, {"name": "random", "value": 0.0}],
    }]  # fmt: skip


def _score(found: Panels, name: str, group: str) -> np.ndarray:
    points = find(found[0]["series"], name)["points"]
    return next(np.array(p["value"]["by_seed"]) for p in points if p["x"] == group)


FIGURE = Figure(
    title="Bandits outside the training distribution",
    runs=runs,
    panels=panels,
    claims={
        "AD generalises to even arms: at least three quarters of UCB's score": lambda found: (
            _score(found, "AD", "even") - 0.75
        ),
        "on even arms, ED and both versions of RL² are worse than a random policy": lambda found: (
            least(*(-_score(found, name, "even") for name in PAPER if name != "AD"))
        ),
        "ED is worse than AD in every test": lambda found: least(
            *(_score(found, "AD", group) - _score(found, "ED", group) for group in GROUPS)
        ),
    },
)
