"""Figure 4: in-context learning of AD on held-out tasks, beside ED, RL² and the source."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ad_jax.evaluation.statistics import last_tenth
from experiments.figures import presets
from experiments.figures.figure import Figure, at, find, last, least, of_panels
from experiments.figures.panels import RETURN, STEPS, curve, level, point, source_curve
from experiments.figures.runs import Results

TITLES = {
    "dark_room": "Dark Room",
    "dark_room_hard": "Dark Room Hard",
    "dark_key_to_door": "Dark Key-to-Door",
    "watermaze": "Watermaze",
}
# (steps, return) of AD; returns of ED at the end, and of RL².
PAPER = {
    "dark_room": (((0, 1.3), (4e3, 9.6), (8e3, 12.9), (20e3, 14.1)), 2.1, 14.7),
    "dark_room_hard": (((4e3, 0.40), (8e3, 0.55), (20e3, 0.68)), 0.06, 0.70),
    "dark_key_to_door": (((2e3, 0.96), (5e3, 1.26), (10e3, 1.66), (50e3, 1.81)), 0.58, 1.87),
    "watermaze": (((1e3, 0.38), (2e3, 0.56), (4e3, 0.73), (8e3, 0.84)), 0.18, 0.97),
}
SHOWN = {
    "smoke": ("dark_room", "dark_key_to_door"),
    "cpu": tuple(TITLES),
    "paper": tuple(TITLES),
}


NOISE_FREE = "ED, noise-free expert"


def runs(preset: str):
    """Four per environment, and in the grid worlds also ED on an expert better than the source."""
    made = {
        "AD": presets.ad,
        "ED": presets.ed,
        NOISE_FREE: presets.noise_free_ed,
        "RL2": presets.rl2,
        "source": presets.source,
    }
    return {
        f"{TITLES[environment]}, {name}": make(environment, preset)
        for environment in SHOWN[preset]
        for name, make in made.items()
        if name != NOISE_FREE or environment != "watermaze"
    }


def panels(results: Mapping[str, Results]) -> list[dict[str, Any]]:
    """One for each environment."""
    made = []
    for environment, title in TITLES.items():
        if f"{title}, AD" not in results:
            continue
        ad, ed, rl2, source = (results[f"{title}, {n}"] for n in ("AD", "ED", "RL2", "source"))
        paper, paper_ed, paper_rl2 = PAPER[environment]
        chosen = ad.config.source
        streams = chosen[chosen.name].num_streams
        ours = curve("AD", ad.of_group(), ad.episode_steps, paper)
        last = ours["x"][-1]
        more = []
        if expert := results.get(f"{title}, {NOISE_FREE}"):
            more.append(curve(NOISE_FREE, expert.of_group(), expert.episode_steps))
        same_world = rl2.config.env.name == ad.config.env.name
        made.append({
            "kind": "curves",
            "title": title,
            "xlabel": STEPS,
            "ylabel": RETURN,
            "xlim": last,
            "curves": [
                ours,
                curve("ED", ed.of_group(), ed.episode_steps, [(last, paper_ed)]),
                *more,
                source_curve("source", source, streams),
                source_curve("source, one stream", source, 1),
            ],
            "levels": [
                {
                    **level("RL2", rl2.of_group()[..., -1]),
                    "label": "RL2" if same_world else "RL2, sees poses",
                    "paper": paper_rl2,
                },
                *bounds_of(ad),
            ],
            "training tasks": point(last_tenth(ad.of_group("train")).mean(-1)),
            "streams": streams,
        })  # fmt: skip
    return made


def bounds_of(results: Results) -> list[dict[str, Any]]:
    """Levels of the optimal and of the random policy on the held-out tasks."""
    chosen = results.group == "heldout"
    return [
        {"name": "optimum", "value": float(results.optimum[chosen].mean())},
        {"name": "random", "value": float(results.chance[chosen].mean())},
    ]


def _risen(panel: Mapping[str, Any], name: str) -> np.ndarray:
    """A curve's gain from start to end, as a fraction of that from random to optimal; [seed]."""
    found, level = find(panel["curves"], name), lambda n: find(panel["levels"], n)["value"]
    return (last(found) - at(found, 0)) / (level("optimum") - level("random"))


def ahead(panel: Mapping[str, Any]) -> np.ndarray:
    """From a tenth of the shown steps on, AD is above the source, by steps of all its actors."""
    ad, source = (find(panel["curves"], name) for name in ("AD", "source"))
    compared = [part * panel["xlim"] for part in (0.1, 0.25, 0.5, 1)]
    return least(*(at(ad, x) - at(source, x) for x in compared))


def _flat_of_noise_free(panel: Mapping[str, Any]) -> np.ndarray | None:
    shown = any(curve["name"] == NOISE_FREE for curve in panel["curves"])
    return 0.1 - _risen(panel, NOISE_FREE) if shown else None


CLAIMS = {
    "AD improves in context: on held-out tasks its return rises by at least 0.3 of the range from "
    "random to optimal": (lambda panel: _risen(panel, "AD") - 0.3),
    "ED stays flat: its return rises by less than 0.1 of that range": (
        lambda panel: 0.1 - _risen(panel, "ED")
    ),
    "AD is ahead of the source after as many steps, if those of all its actors are added up": (
        ahead
    ),
    "ED of a noise-free expert stays flat: its return rises by less than 0.1 of that range": (
        _flat_of_noise_free
    ),
}


FIGURE = Figure(
    title="Learning in context on held-out tasks, weights frozen",
    runs=runs,
    panels=panels,
    claims=of_panels(TITLES.values(), CLAIMS),
)
