"""Draws the learning curves of several runs in one picture, and prints a table.

    python -m experiments.compare AD=runs/ad ED=runs/ed --out=runs/compared

Each run is a workdir whose evaluation is complete, or NAME=workdir; runs of one name are training
seeds of one method. All must have been evaluated on the same tasks.
"""

import argparse
import json
import sys
from typing import Any

import ml_collections
import numpy as np
from matplotlib.figure import Figure

from ad_jax import build
from ad_jax.errors import UserError
from ad_jax.evaluation import bounds, statistics
from ad_jax.paths import as_path
from data_pipelines.files import growing, write_text_atomically
from experiments.configs.stored import get_config
from experiments.pictures import style
from experiments.runtime import logs
from experiments.runtime.interruption import Interruption, end_well
from experiments.runtime.workdir import Folders
from experiments.stages import evaluate

THRESHOLDS = np.linspace(0, 1.05, 64)
RESULTS = "compared.json"
PICTURE = "compared.png"


def load(path: str) -> tuple[ml_collections.ConfigDict, np.ndarray, np.ndarray]:
    """A run's config, the tasks it is tested on, and its returns there.

    Returns:
      (config, int [task], float [seed, task, rollout, episode]).

    Raises:
      UserError: there is no run, or its evaluation is not complete.
    """
    folders = Folders(path)
    if not (folders.path / "config.json").exists():
        raise UserError(f"{path} is not a workdir: it has no config.json")
    config = get_config(folders.path / "config.json")
    if not evaluate.done(config, folders):
        raise UserError(f"{path} is not evaluated: run its stage 'evaluate' first")
    results = evaluate.load_results(folders.evaluation)
    if "returns" not in results:
        raise UserError(f"{path} has predictions but no returns: give runs that act")
    tested = evaluate.is_tested(results["group"])
    return config, results["task"][tested], results["returns"][:, tested]


def gather(runs: list[str]) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, Any]]:
    """The normalised returns of each method.

    Args:
      runs: workdirs, or NAME=workdir.

    Returns:
      (scores, chance, facts). Scores: float [seed, task, rollout, episode] by name, returns divided
      by the optimal return where that is known and positive for all tasks. Chance: float [task],
      the random policy's returns, divided likewise. Facts: what the picture states about the runs.

    Raises:
      UserError: the runs were not evaluated on the same tasks, rollouts and episodes.
    """
    found: dict[str, list[np.ndarray]] = {}
    worlds = []
    for run in runs:
        name, equals, path = run.rpartition("=")
        config, tasks, returns = load(path)
        worlds.append((run, config, tasks, returns.shape[2:]))
        found.setdefault(name if equals else as_path(path).name, []).append(returns)
    first, config, tasks, shape = worlds[0]
    for run, other, of_other, other_shape in worlds[1:]:
        same = other.env.to_dict() == config.env.to_dict() and np.array_equal(of_other, tasks)
        if not same:
            raise UserError(f"{run} was evaluated on other tasks than {first}")
        if other_shape != shape:
            raise UserError(
                f"{run} has {other_shape} rollouts and episodes, but {first} has {shape}: evaluate "
                "both with the same numbers"
            )
    world = build.world(config)
    params = world.tasks.params(tasks)
    best = bounds.optimal_returns(world.env, params)
    chance = bounds.random_returns(world.env, params)
    scale = np.ones(len(tasks))
    if best is not None and (best > 0).all():
        scale = best
    scores = {name: np.concatenate(parts) / scale[:, None, None] for name, parts in found.items()}
    facts = {
        "environment": world.env.name,
        "tasks": len(tasks),
        "group": evaluate.LABELS[config.evaluation.tasks],
        "rollouts": shape[0],
        "episodes": shape[1],
        "unit": "return / optimal return" if scale is best else "return",
        "presets": sorted({of_run.preset for _, of_run, _, _ in worlds}),
    }
    return scores, chance / scale, facts


def compare(scores: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Statistics of each method, as JSON values: its curve, and the last tenth of the episodes.

    Intervals treat training seeds, tasks and rollouts as samples. ``profile`` and ``improvement``,
    the probability of improvement over the first method, count each model on each task once, with
    the mean over its rollouts. The interval of the latter also treats the first method's seeds as
    samples.
    """
    end = {name: statistics.last_tenth(values).mean(-1) for name, values in scores.items()}
    of_models = {name: last.mean(2, keepdims=True) for name, last in end.items()}
    first = next(iter(of_models.values()))
    made = {}
    for name, values in scores.items():
        of_model = of_models[name]
        shown = {
            "curve": values,
            "mean": end[name],
            "profile": statistics.performance_profile(of_model, THRESHOLDS),
        }
        made[name] = {"seeds": len(values)}
        for key, samples in shown.items():
            made[name][key] = samples.mean((0, 1, 2)).tolist()
            made[name][f"{key}_ci95"] = statistics.confidence_interval(samples).tolist()
        if of_model is not first:
            gain = statistics.improvement(of_model, first)
            loss = statistics.improvement(first, of_model)
            mean = gain.mean()
            halves = [np.diff(statistics.confidence_interval(x))[0] / 2 for x in (gain, loss)]
            half = np.hypot(*halves)  # tasks are counted twice, so this is slightly too wide
            made[name]["improvement"] = float(mean)
            ends = np.clip([mean - half, mean + half], 0, 1)
            made[name]["improvement_ci95"] = ends.tolist()
    return made


def draw(made: dict[str, dict[str, Any]], facts: dict[str, Any], chance: float) -> Figure:
    """Curves and performance profiles."""
    figure, [(curves, profiles)] = style.panels(1, 2, (10.5, 4.2))
    episode = np.arange(1, facts["episodes"] + 1)
    for i, (name, of_name) in enumerate(made.items()):
        drawn = i % len(style.LINES)
        label = f"{name} ({style.counted(of_name['seeds'], 'training seed')})"
        for axes, x, key in ((curves, episode, "curve"), (profiles, THRESHOLDS, "profile")):
            low, high = np.array(of_name[f"{key}_ci95"]).T
            axes.plot(x, of_name[key], label=label, **style.line(drawn))
            style.band(axes, x, low, high, drawn)
    optimum = {} if facts["unit"] == "return" else {"optimum": 1.0}
    style.bounds(curves, {**optimum, "random policy": chance})
    curves.set(xlabel="episode in context", ylabel=facts["unit"])
    curves.xaxis.get_major_locator().set_params(integer=True)
    profiles.set(
        xlabel=f"threshold ({facts['unit']}, last tenth)", ylabel="fraction of scores above"
    )
    figure.suptitle(f"{facts['environment']}: learning in context, weights frozen", fontsize=11)
    tasks = style.counted(facts["tasks"], f"{facts['group']} task")
    sample = style.counted(facts["rollouts"], "rollout")
    style.explain(
        figure,
        f"Lines: means over {tasks} and {sample} of each for every training seed. Bands: 95 % "
        "intervals over training seeds, tasks and rollouts; with one seed, they are those of one "
        "model. Right: means over the last tenth of the episodes.",
        ", ".join(facts["presets"]),
        style.named(curves),
    )
    return figure


def table(made: dict[str, dict[str, Any]], facts: dict[str, Any]) -> str:
    """What the terminal shows."""
    width = max(map(len, made))
    lines = [f"{facts['environment']}, {facts['unit']}, last tenth of {facts['episodes']} episodes"]
    lines.append(f"{'':{width}}  seeds  {'mean':^19}  P(better than the first)")
    show = lambda value, ci: f"{value:.2f} [{ci[0]:.2f}, {ci[1]:.2f}]"
    for name, of_name in made.items():
        mean = show(of_name["mean"], of_name["mean_ci95"])
        gain = "–"
        if "improvement" in of_name:
            gain = show(of_name["improvement"], of_name["improvement_ci95"])
        lines.append(f"{name:{width}}  {of_name['seeds']:5}  {mean:19}  {gain}")
    if any(of_name["seeds"] == 1 for of_name in made.values()):
        lines.append("with one seed, an interval describes that model: no verdict on methods")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.compare")
    parser.add_argument("runs", nargs="+", help="workdirs, or NAME=workdir")
    parser.add_argument("--out", required=True, help="folder for the picture and the numbers")
    options = parser.parse_args(arguments)
    logs.set_level(None)
    scores, chance, facts = gather(options.runs)
    made = compare(scores)
    out = as_path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    with growing(out) as (folder, _):
        pictures = style.save(draw(made, facts, float(chance.mean())), folder / PICTURE)
    text = json.dumps({**facts, "methods": made}, indent=1, allow_nan=False)
    write_text_atomically(out / RESULTS, text)
    print(table(made, facts))
    for name in (*pictures, RESULTS):
        print(out / name)


def entry_point() -> None:
    """Runs ``main``."""
    end_well(lambda: main(sys.argv[1:]), Interruption())


if __name__ == "__main__":
    entry_point()
