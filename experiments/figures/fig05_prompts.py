"""Figure 5: contexts filled beforehand with episodes of policies that are 5 - 95 % optimal."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.figures import presets
from experiments.figures.fig04_main import bounds_of
from experiments.figures.figure import Figure, Panels, at, last, least
from experiments.figures.panels import RETURN, STEPS, curve
from experiments.figures.runs import Results, Run, changed, episode_steps

# Quality of the prompt: return before and after 25 000 steps.
PAPER = {
    "AD": {5: (0.8, 13.6), 25: (4.2, 15.9), 50: (7.5, 16.2), 75: (12.5, 16.5), 95: (15.5, 16.5)},
    "ED": {5: (0.1, 1.7), 25: (3.7, 6.6), 50: (8.9, 11.4), 75: (13.7, 13.9), 95: (16.8, 16.6)},
}
QUALITIES = {"smoke": (25, 75), "cpu": tuple(PAPER["AD"]), "paper": tuple(PAPER["AD"])}


def runs(preset: str):
    """AD and ED after prompts that fill their context."""
    made = {}
    for name, make in (("AD", presets.ad), ("ED", presets.ed)):
        run = make("dark_room", preset)
        for quality in QUALITIES[preset]:
            prompt = {
                "evaluation.prompt_episodes": run.config.model.context // episode_steps(run.config),
                "evaluation.prompt_quality": quality / 100,
            }
            made[f"{name}, {quality} %"] = Run(changed(run.config, prompt), run.num_train)
    return made


def panels(results: Mapping[str, Results]) -> list[dict[str, Any]]:
    """One for AD, one for ED."""
    made = []
    for method in ("AD", "ED"):
        curves = []
        for name, found in results.items():
            if name.startswith(method):
                quality = int(name.split()[1])
                last = found.returns.shape[-1] * found.episode_steps
                before, after = PAPER[method][quality]
                marks = [(found.episode_steps, before), (last, after)]
                line = curve(f"{quality} % prompt", found.of_group(), found.episode_steps, marks)
                line["prompt"] = float(found.prompt_returns[:, found.group == "heldout"].mean())
                curves.append(line)
        made.append({
            "kind": "curves", "title": f"{method} after prompts", "xlabel": STEPS,
            "ylabel": RETURN, "curves": curves, "levels": bounds_of(found),
        })  # fmt: skip
    return made


def improves(found: Panels) -> np.ndarray:
    """After every prompt, AD ends above the prompt's return and above its own first episode.

    A slack of 2 % of the optimum covers prompts that leave nothing to gain.
    """
    slack = 0.02 * found[0]["levels"][0]["value"]
    gains = lambda c: last(c) - np.maximum(c["prompt"], at(c, 0)) + slack
    return least(*map(gains, found[0]["curves"]))


def keeps(found: Panels) -> np.ndarray:
    """ED ends near its prompt's return, and higher after better prompts.

    Near is within a quarter of the optimum.
    """
    optimum, curves = found[1]["levels"][0]["value"], found[1]["curves"]
    near = [optimum / 4 - abs(last(c) - c["prompt"]) for c in curves]
    steps = [last(better) - last(worse) for worse, better in itertools.pairwise(curves)]
    return least(*near, *steps)


FIGURE = Figure(
    title="Contexts filled with another policy's episodes",
    runs=runs,
    panels=panels,
    claims={
        "AD improves on prompts of every quality, or stays near the optimum": improves,
        "ED stays at the level of its prompt: it ends within a quarter of the optimum of the "
        "prompt's return": keeps,
    },
)
