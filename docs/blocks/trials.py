"""What was tried: tables of runs whose settings differ, most of them on validation tasks."""

import re
from collections.abc import Mapping
from typing import Any

from docs.blocks.returns import BANDITS, GROUPS
from docs.blocks.words import Results, end, interval, mean, number, rate, table
from experiments.figures.figure import find
from experiments.pictures.style import counted

ABLATIONS = "benchmarks/results/ablations.json"
WATERMAZE = "docs/results/watermaze_trials.json"
SUBSAMPLING = "docs/results/subsampling_trials.json"
EXPERTS = "docs/results/expert_trials.json"
RL2_TRIALS = "docs/results/rl2_trials.json"
BANDIT_TRIALS = "docs/results/bandit_trials.json"
ARENA = "docs/results/arena_trials.json"


def _curve(row: Mapping[str, Any], *earlier: str) -> str:
    """Earlier returns of a trial → its last tenth, with the interval."""
    last = mean({"mean": row["final"], "ci95": row["final_ci95"]})
    return " → ".join([*(number(row[key]) for key in earlier), last])


def dark_room_models(results: Results) -> str:
    """Models of other sizes on the same histories."""
    runs = results["docs/results/dark_room_models_h100.json"]["runs"]
    rows = []
    for run in sorted(runs, key=lambda run: run["heldout_return_by_tenth"][-1]):
        changed = re.sub(r"\b(model|train|optimizer)\.", "", run["changed"])
        if "source." not in changed:
            rows.append([
                f"`{changed}`" if changed else "nothing",
                number(run["heldout_return_by_tenth"][-1]), number(run["heldout_stuck"]),
                number(run["train_return_by_tenth"][-1]), number(run["train_stuck"]),
            ])  # fmt: skip
    return table("changed | held-out: return | no reward | training: return | no reward", rows)


def watermaze_trials(results: Results) -> str:
    """The effect of each change to Watermaze's preset, on validation tasks."""
    rows = []
    for row in results[WATERMAZE]["rows"]:
        encoder = " + ".join(map(str, row["encoder"])) if row["encoder"] else "–"
        rows.append([
            row["source"], row["sees"], encoder, number(row["shown_cost"], 2),
            f"{row['platforms']}", f"{row['updates']}", row["optimizer"],
            f"{_curve(row, 'first', 'tenth')}, {row['episodes']}",
            number(row["training"]),
        ])  # fmt: skip
    return table(
        "source | sees | encoder | shown_cost | platforms | updates | optimizer | episode 1 → 10 → "
        "last tenth (95 %), episodes | training platforms",
        rows,
    )


def watermaze_encoders(results: Results) -> str:
    """The errors of encoders that were trained to predict poses."""
    rows = [
        [" + ".join(map(str, found["hidden"])), f"{found['updates']}",
         f"{found['median_error_units']}"]
        for found in results[WATERMAZE]["encoders"]
    ]  # fmt: skip
    return table("layers | updates of 256 frames | median error, units", rows)


def expert_trials(results: Results) -> str:
    """ED and AD on sources with different entropy schedules, on validation tasks."""
    rows = [
        [row["world"], row["method"],
         f"{row['entropy_cost']} → {row['entropy_end']} in {row['entropy_updates']} of "
         f"{row['collect_updates']} updates",
         number(row["source_return"]), row["optimizer"], _curve(row, "first")]
        for row in results[EXPERTS]["rows"]
    ]  # fmt: skip
    return table(
        "environment | method | weight of the entropy | final return of the source | optimizer | "
        "episode 1 → last tenth (95 %)",
        rows,
    )


def subsampling_trials(results: Results) -> str:
    """The effect of keeping only every k-th episode, on validation tasks."""
    rows = [
        [row["world"], f"{row['keep_every']}", f"{row['context']}", f"{row['updates']}",
         row["optimizer"], f"{_curve(row, 'first', 'fiftieth')}, {row['episodes']}",
         number(row["training"])]
        for row in results[SUBSAMPLING]["rows"]
    ]  # fmt: skip
    return table(
        "environment | one episode of | context | updates | optimizer "
        "| episode 1 → 50 → last tenth (95 %), episodes | training tasks",
        rows,
    )


def rl2_trials(results: Results) -> str:
    """What RL² reaches with other settings, on training and on validation tasks."""
    rows = [
        [row["world"], f"{row['num_trials']} × {row['episodes']}", f"{row['num_epochs']}",
         f"{row['num_minibatches']}", f"{row['learning_rate']}", f"{row['discount']}",
         f"{row['entropy_cost']}", f"{row['steps'] / 1e6:.0f} M",
         rate(row["steps"] / row["seconds"]), number(row["training"]), _curve(row, "first")]
        for row in results[RL2_TRIALS]["rows"]
    ]  # fmt: skip
    return table(
        "environment | trials × episodes | epochs | minibatches | learning rate | γ | entropy "
        "| steps | steps per second, two cores | training tasks "
        "| validation tasks: episode 1 → last tenth (95 %)",
        rows,
    )


def bandit_trials(results: Results) -> str:
    """Scores in bandits, by the share of training tasks that pay on odd arms."""
    (panel,) = results[BANDITS]["panels"]
    trials, rows = results[BANDIT_TRIALS]["rows"], []
    for method in dict.fromkeys(row["method"] for row in trials):
        points, name = find(panel["series"], method)["points"], method.replace("RL2", "RL²")
        rows.append([name, "95 %, figure 3", *(mean(point["value"]) for point in points)])
        for row in trials:
            if row["method"] == method:
                scores = (mean(row[group] | {"mean": row[group]["score"]}) for group in GROUPS)
                rows.append([name, f"{100 * row['usual']:.0f} %", *scores])
        rows.append([name, "the paper", *(number(point["paper"]) for point in points)])
    return table("method | training tasks that pay on odd arms | odd | even | uniform", rows)


def arena_trials(results: Results) -> str:
    """What IC-IQL and DICP reach with other settings, on validation tasks."""
    rows = []
    for row in results[ARENA]["rows"]:
        settings = _SETTINGS.get(row["method"], lambda row: "")(row)
        rows.append([
            row["world"], f"`{row['method']}`", settings,
            f"{_curve(row, 'first', 'tenth')}, {row['episodes']}", number(row["training"]),
        ])  # fmt: skip
    return table(
        "environment | method | settings | episode 1 → 10 → last tenth (95 %), episodes | "
        "training tasks",
        rows,
    )


def _of_iql(row: Mapping[str, Any]) -> str:
    crossed = "across episodes" if row["across_episodes"] else "within an episode"
    scaled = "" if row["scaled_losses"] else "; losses not divided by the variance"
    return f"γ {row['discount']}, {crossed}; β {row['advantage_weight']}{scaled}"


def _of_dicp(row: Mapping[str, Any]) -> str:
    weight = f"weight of the model's loss {row['model_cost']}"
    if not row["horizon"]:
        return f"no planning; {weight}"
    return f"{row['beam_size']} paths of {counted(row['horizon'], 'step')}; {weight}"


_SETTINGS = {"ICIQL": _of_iql, "DICP": _of_dicp}


def ablations(results: Results) -> str:
    """The effect of each setting of ``quickstart``, on validation tasks."""
    found = results[ABLATIONS]["rows"]
    first, rows = found[0]["final"], []
    for row in found:
        by_seed = ", ".join(number(end(curve)) for curve in row["curve"])
        rows.append([
            "**as it is**" if row is found[0] else row["title"],
            f"{number(row['final'])} ({interval(row['ci95'])})",
            "" if row is found[0] else f"{row['final'] - first:+.2f}",
            by_seed, f"{100 * row['below_half']:.0f} %",
        ])  # fmt: skip
    return table(
        "changed | return / optimal return (95 %) | difference | by training seed "
        "| rollouts below half",
        rows,
    )


BLOCKS = (
    dark_room_models,
    watermaze_trials,
    watermaze_encoders,
    expert_trials,
    subsampling_trials,
    rl2_trials,
    bandit_trials,
    arena_trials,
    ablations,
)
