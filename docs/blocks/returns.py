"""Returns in context, of our runs and of others."""

from typing import NamedTuple

import numpy as np

from docs.blocks.words import (
    Results,
    device,
    end,
    final,
    improves,
    interval,
    link,
    mean,
    number,
    optimum,
    preset,
    seconds,
    summary_of,
    table,
)
from experiments.figures import fig03_bandits, fig04_main
from experiments.figures.figure import find


class Run(NamedTuple):
    """A run, with facts that its results do not contain.

    Attributes:
      path: of its results.
      name: of the environment.
      source: the source, in words.
      streams: how many of the source's streams are distilled.
      training: number of training tasks, if the results do not contain it.
      note: how it was run, if that needs a remark.
    """

    path: str
    name: str
    source: str
    streams: str
    training: int | None = None
    note: str = ""


QUICKSTART = "docs/results/dark_room_quickstart.json"
SEEDS = "docs/results/dark_room_quickstart_seeds.json"
BANDITS, EFFICIENCY = "docs/figures/fig03.json", "docs/figures/fig16.json"
PUBLISHED = "docs/results/published.json"
PAPER_H100 = "docs/results/dark_room_paper_h100.json"
BANDIT = Run("ad_jax/weights/adversarial_bandit.json", "adversarial bandit", "UCB", "1")
# Of the preset `cpu`.
MAIN = [
    Run("ad_jax/weights/dark_room.json", "Dark Room", "PPO", "64"),
    Run("ad_jax/weights/dark_room_hard.json", "Dark Room Hard", "PPO, privileged", "32 of 64"),
    Run("ad_jax/weights/dark_key_to_door.json", "Dark Key-to-Door", "PPO, privileged", "4 of 32"),
    Run("docs/results/watermaze.json", "Watermaze", "search that sees poses", "8", 512),
]
OTHERS = [
    Run(QUICKSTART, "Dark Room", "R-max", "64", 57),
    Run(
        "docs/results/dark_room_quickstart_h100.json",
        "Dark Room",
        "PPO",
        "64",
        65,
        " (as it was, with PPO)",
    ),
    Run(PAPER_H100, "Dark Room", "A2C", "31 of 100", 65, " (see below)"),
]
# What the paper shows: scores on three groups of bandits, and (steps, return) elsewhere.
GROUPS = {"odd": "heldout", "even": "even", "uniform": "uniform"}
PAPER_SCORES = dict(zip(GROUPS, fig03_bandits.PAPER["AD"], strict=True))
PAPER_CURVES = {title: fig04_main.PAPER[key][0] for key, title in fig04_main.TITLES.items()}
STEPS_OF_AN_EPISODE = {
    "Dark Room": 20, "Dark Room Hard": 20, "Dark Key-to-Door": 50, "Watermaze": 50,
}  # fmt: skip


def paper(name: str, episodes: int) -> str:
    """The paper's return after as many episodes, if it shows that, and at its end."""
    shown = {x / STEPS_OF_AN_EPISODE[name]: value for x, value in PAPER_CURVES[name]}
    marks = sorted({episodes, max(shown)} & set(shown))
    return ", ".join(f"{number(shown[mark])} after {mark:.0f}" for mark in marks)


def readme_environments(results: Results) -> str:
    """A row for each environment of the paper: AD in figures 3 and 16, with all training seeds."""
    points = find(results[BANDITS]["panels"][0]["series"], "AD")["points"]
    groups = " / ".join(point["x"] for point in points)
    scores = " / ".join(mean(point["value"]) for point in points)
    papers = " / ".join(number(point["paper"]) for point in points)
    rows = [[f"{BANDIT.name}, score {groups}", BANDIT.source, scores, papers]]
    figure = results[EFFICIENCY]
    for run in MAIN:
        panel = find(figure["panels"], run.name)
        ad, best = find(panel["curves"], "AD"), panel["optimal_return"]
        final = {key: np.multiply(ad["final"][key], best) for key in ("mean", "ci95")}
        episodes = figure["runs"][f"{run.name}, AD"]["episodes"]
        rows.append([
            run.name, run.source,
            f"{number(best * ad['mean'][0])} → {mean(final)} of {float(number(best)):g} after "
            f"{episodes} episodes", paper(run.name, episodes),
        ])  # fmt: skip
    return table(
        "environment | source | in context, held-out tasks (95 %) | the paper, at its scale", rows
    )


def results_returns(results: Results) -> str:
    """Returns in context on held-out tasks."""
    bandit, rows = summary_of(BANDIT.path, results), []
    for arms, group in GROUPS.items():
        found = bandit[group]
        rows.append([
            f"{link(BANDIT.name, BANDIT.path)}, {preset(bandit)}: {arms}",
            str(bandit["episodes"]), f"**{number(end(found['return']))}**",
            number(found["random_return"]), f"UCB: {number(found['source_return'])}",
            f"score {number(found['score'])} ({interval(found['score_ci95'])})", "", "",
            f"score {number(PAPER_SCORES[arms])}",
        ])  # fmt: skip
    for run in (*OTHERS, *MAIN):
        found = summary_of(run.path, results)
        of_tasks = found["heldout"]["per_task_final"]
        rows.append([
            f"{link(run.name, run.path)}, {preset(found)}{run.note}", str(found["episodes"]),
            improves(found), number(found["random_return"]), optimum(found),
            final(found["heldout"]), interval((min(of_tasks), max(of_tasks))),
            number(found["train"]["final"]), paper(run.name, found["episodes"]),
        ])  # fmt: skip
    return table(
        "environment, preset | episodes | return, first episode → last tenth | at random | optimum "
        "| of the optimum (95 %) | worst – best task | training tasks | the paper's return",
        rows,
    )


def results_runs(results: Results) -> str:
    """How the runs were made, and how long they took."""
    rows = []
    for run in (BANDIT, *OTHERS, *MAIN):
        found = summary_of(run.path, results)
        training = results[run.path].get("training_tasks", run.training)
        rows.append([
            f"{run.name}, {preset(found)}", f"{training:,} / {found['heldout']['tasks']}",
            run.source, run.streams, number(end(found["source"]["normalized"])),
            seconds(found), device(found),
        ])  # fmt: skip
    return table(
        "environment, preset | tasks, training / held-out | source | streams distilled "
        "| its last tenth / optimum | collect + train + evaluate | device",
        rows,
    )


def results_gymnax(results: Results) -> str:
    """Environments of gymnax: cart_pole.json, and all files called gymnax_*.json."""
    rows = []
    for path in results:
        if path.startswith(("docs/results/cart_pole.", "docs/results/gymnax_")):
            found = summary_of(path, results)
            config = "gymnax" if "gymnax_" in path else "cart_pole"
            rows.append([
                f"{link(found['environment'], path)}, `{config}:{found['preset']}`",
                str(found["episodes"]),
                improves(found), number(found["random_return"]),
                number(end(found["source"]["return"])),
                final(found["heldout"]),
                seconds(found), device(found),
            ])  # fmt: skip
    return table(
        "environment, preset | episodes | return, first episode → last tenth | at random "
        "| the source's last tenth | last tenth (95 %) | collect + train + evaluate | device",
        rows,
    )


def published(results: Results) -> str:
    """Results that others have published, with ours beside them."""
    rows = []
    for world, theirs in results[PUBLISHED].items():
        rows += [
            [world, row["who"], row["how"], number(row["score"]), "", f"{row.get('episodes', '–')}"]
            for row in theirs
        ]
        for run in (*OTHERS, *MAIN):
            found = summary_of(run.path, results)
            if run.name == world and "cpu" in found["device"]:
                training = results[run.path].get("training_tasks", run.training)
                rows.append([
                    world, f"ours, {link(found['preset'], run.path)}",
                    f"{training} tasks × {run.streams.split()[0]} histories of {run.source}",
                    f"**{number(end(found['heldout']['return']))}**", optimum(found),
                    f"{found['episodes']}",
                ])  # fmt: skip
    return table("environment | who | distilled | return | optimum | after episodes", rows)


def quickstart_seeds(results: Results) -> str:
    """What ``quickstart`` reaches on held-out tasks, over training seeds, in a sentence."""
    found = results[SEEDS]["methods"]["quickstart"]
    return (
        f"Of {found['seeds']} training seeds, it has {number(found['mean'])} "
        f"({interval(found['mean_ci95'])}) of the optimal return in the last tenth of the "
        "episodes: a 95 % interval\nfor which seeds, goals and rollouts are samples."
    )


def learners(results: Results) -> str:
    """The learners that come with the package."""
    rows = []
    for path, found in results.items():
        if path.startswith("ad_jax/weights/"):
            heldout, name = found["summary"]["heldout"], found["name"]
            rows.append([
                f"`{name}`", found["world"], f"{found['summary']['episodes']}",
                final(heldout), f"[card](../ad_jax/weights/{name}.md)",
            ])  # fmt: skip
    return table(
        "name | environment | episodes | held-out return / optimal return, last tenth (95 %) "
        "| model card",
        rows,
    )


BLOCKS = (
    readme_environments,
    results_returns,
    results_runs,
    results_gymnax,
    published,
    quickstart_seeds,
    learners,
)
