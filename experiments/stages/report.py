"""Stage 4: pictures, a table, a page and a summary of a run."""

import json
import math
from typing import Any

import ml_collections
import numpy as np

from ad_jax import build
from ad_jax.envs.adversarial_bandit import AdversarialBandit
from ad_jax.envs.grid_world import GridWorld
from ad_jax.envs.watermaze import Watermaze
from ad_jax.errors import UserError
from ad_jax.evaluation import bounds
from ad_jax.evaluation.statistics import by_task, confidence_interval, last_tenth
from data_pipelines.files import growing, read_json, write_text_atomically
from data_pipelines.writer import PROVENANCE
from experiments.page.html import html
from experiments.page.run_page import document
from experiments.pictures import bandit, curves, grid_world, style, watermaze
from experiments.runtime import version
from experiments.runtime.interruption import Interruption
from experiments.runtime.workdir import Folders, Workdir
from experiments.stages import evaluate

SUMMARY, PAGE = "summary.json", "index.html"
CURVE, SOURCE = "learning_curve.png", "source.png"
_SOURCE_TRIALS = 32  # of each bandit
# Besides the learning curve: ``draw(env, params, results, reference, summary, folder)`` returns the
# names of the files that it wrote.
PICTURES = {
    AdversarialBandit: bandit.draw,
    GridWorld: grid_world.draw,
    Watermaze: watermaze.draw,
}


def done(config: ml_collections.ConfigDict, workdir: Folders) -> bool:
    """Whether the summary, which is written last, is there."""
    return (workdir.report / SUMMARY).exists()


def run(config: ml_collections.ConfigDict, workdir: Workdir, interruption: Interruption) -> None:
    """Draws the pictures and the page, prints the table, writes the summary."""
    if not evaluate.done(config, workdir):
        raise UserError(f"{workdir.evaluation} holds no results: run the stage 'evaluate' first")
    world = build.world(config)
    results = evaluate.load_results(workdir.evaluation)
    evaluate.check_returns(results["returns"], world.env.name)
    collected = None
    if build.reads_windows(config):
        collected = read_json(workdir.histories / PROVENANCE, "collect again in another workdir")
    tasks = evaluate.evaluation_tasks(world, config.evaluation.tasks, config.evaluation.train_tasks)
    chance = bounds.random_returns(world.env, tasks.params)
    zero, reference = np.zeros_like(chance), bounds.optimal_returns(world.env, tasks.params)
    named, unit = "optimal return", "return / optimal return"
    if reference is None and collected:  # returns may be negative: count from a random policy's
        named, unit = "the source's final return", "(return - random) / (source - random)"
        source = last_tenth(np.array(collected["mean_return_by_episode"])).mean()
        zero, reference = chance, np.full_like(chance, source)
    elif reference is None:
        named, unit, reference = "one", "return", np.ones_like(chance)

    summary = {
        "environment": world.env.name,
        "method": config.method,
        "preset": config.preset,
        "reference": named,
        "unit": unit,
        "episodes": config.evaluation.episodes,
        "rollouts_per_task": config.evaluation.rollouts,
        "seeds": [config.seed + i for i in range(config.train.seeds)],
        "intervals_over": style.sampled(config.train.seeds),
        "groups": list(dict.fromkeys(results["group"].tolist())),
        **summarize(results, zero, reference, chance),
        **costs(results, collected),
    }
    if collected:
        optimum = bounds.optimal_returns(world.env, world.tasks.params(world.train))
        low, high = zero.mean(), reference[0] if optimum is None else optimum.mean()
        curve = np.array(collected["mean_return_by_episode"])
        summary["source"] = {
            "name": config.source.name,
            "return": curve.tolist(),
            "normalized": _ratio(curve - low, high - low).tolist(),
            "env_steps_total": collected["env_steps"],
        }
        if quantiles := collected.get("return_quantiles_by_episode"):  # older ones have none
            summary["source"]["return_quantiles"] = quantiles
    if isinstance(world.env, AdversarialBandit):
        for name, score in bandit_scores(config, world.env, tasks, results, chance).items():
            summary[name].update(score)
    results["returns"] = by_task(results["returns"])  # pictures show all seeds together
    workdir.report.mkdir(exist_ok=True)
    pictures = []
    with growing(workdir.report) as (folder, _):
        if config.evaluation.episodes > 1:
            pictures += style.save(curves.learning_curve(summary), folder / CURVE)
        if len(summary.get("source", {}).get("return_quantiles", ())) > 1:
            pictures += style.save(curves.source_curve(summary), folder / SOURCE)
        for kind, draw in PICTURES.items():
            if isinstance(world.env, kind):
                scale = np.where(reference > 0, reference, np.nan)
                pictures += draw(world.env, tasks.params, results, scale, summary, folder)
        # The page itself draws the curves, and the goals and rollouts of grid worlds.
        shown = lambda name: name not in (CURVE, SOURCE) and not name.endswith(".pdf")
        embedded = [] if isinstance(world.env, GridWorld) else filter(shown, pictures)
        page = document(
            world.env, tasks.params, results, zero, reference, chance, null_for_nan(summary),
            config.to_dict(), [folder / name for name in embedded],
        )  # fmt: skip
        (folder / PAGE).write_text(html(page), encoding="utf-8")
    text = json.dumps(null_for_nan(summary), indent=1, allow_nan=False)
    write_text_atomically(workdir.report / SUMMARY, text)
    print(table(summary))
    for name in (*pictures, SUMMARY, PAGE):
        print(workdir.report / name)


def null_for_nan(value: Any) -> Any:
    """A tree of JSON values with None in place of numbers that are NaN, which is not JSON."""
    if isinstance(value, dict):
        return {k: null_for_nan(v) for k, v in value.items()}
    if isinstance(value, list):
        return [null_for_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def summarize(
    results: dict[str, np.ndarray], zero: np.ndarray, reference: np.ndarray, chance: np.ndarray
) -> dict[str, Any]:
    """Statistics of each group of tasks, and bounds of the tested ones; see docs/running.md.

    Args:
      results: of the stage "evaluate".
      zero, reference: float [task], the returns that normalise to 0 and to 1. Tasks whose reference
        is not above zero count in "return" only. If a group has no other tasks, its normalised
        numbers are NaN.
      chance: float [task], returns of a random policy.
    """

    returns = results["returns"]  # [seed, task, rollout, episode]

    def split(chosen: np.ndarray) -> dict[str, Any]:
        solvable = chosen & (reference > zero)
        low, span = zero[solvable], (reference - zero)[solvable]
        normalized = (returns[:, solvable] - low[:, None, None]) / span[:, None, None]
        random = (chance[solvable] - low) / span
        if not solvable.any():
            normalized = np.full((len(returns), 1, *returns.shape[2:]), np.nan)
            random = np.array([np.nan])
        final = last_tenth(normalized).mean(-1)
        below_half = np.where(np.isnan(final), np.nan, final < 0.5).mean((0, 2))
        return {
            "tasks": int(chosen.sum()),
            "unsolvable_tasks": int((chosen & ~solvable).sum()),
            "return": returns[:, chosen].mean((0, 1, 2)).tolist(),
            "normalized": normalized.mean((0, 1, 2)).tolist(),
            "ci95": confidence_interval(normalized).tolist(),
            "final": float(final.mean()),
            "final_ci95": confidence_interval(final).tolist(),
            "final_by_seed": final.mean((1, 2)).tolist(),
            "per_task_final": final.mean((0, 2)).tolist() if solvable.any() else [],
            "below_half": float(below_half.mean()),
            "below_half_worst_task": float(below_half.max()),
            "random_normalized": float(random.mean()),
        }

    tested = evaluate.is_tested(results["group"])
    return {
        **{name: split(results["group"] == name) for name in np.unique(results["group"]).tolist()},
        "optimal_return": float(reference[tested].mean()),
        "random_return": float(chance[tested].mean()),
    }


def _ratio(part: np.ndarray, whole: float) -> np.ndarray:
    """``part / whole``; NaN if the whole is not positive."""
    return part / (whole if whole > 0 else np.nan)


def costs(results: dict[str, np.ndarray], collected: dict[str, Any] | None) -> dict[str, Any]:
    """Device, seconds and throughput of each stage, the collection's where there was one."""
    seconds = {"train": float(results["train_seconds"]), "evaluate": float(results["seconds"])}
    throughput = {
        "train_transitions_per_s": float(results["train_transitions_per_s"]),
        "evaluate_env_steps_per_s": float(results["env_steps"] / results["seconds"]),
    }
    if collected:
        seconds = {"collect": collected["seconds"], **seconds}
        rate = collected["env_steps"] / collected["seconds"]
        throughput = {"collect_env_steps_per_s": rate, **throughput}
    return {
        "device": str(results["device"]),
        **version.made(),
        "seconds": seconds,
        "throughput": throughput,
    }


def bandit_scores(
    config: ml_collections.ConfigDict,
    env: AdversarialBandit,
    tasks: evaluate.EvaluationTasks,
    results: dict[str, np.ndarray],
    chance: np.ndarray,
) -> dict[str, dict[str, Any]]:
    """(r - r_random) / (r_source - r_random) of each group, from mean returns of the group.

    The source runs again, from scratch, on the same tasks as the evaluation. Its mean rewards by
    pull are added to ``results`` as source_reward, float [task, time].
    """
    source = build.source(config, env)
    trials = -(-_SOURCE_TRIALS // source.num_streams)
    results["source_reward"] = bounds.source_rewards(
        source, build.key(config, "report"), tasks.params, trials
    )
    scores = {}
    for name in np.unique(results["group"]).tolist():
        chosen = results["group"] == name
        low, high = chance[chosen].mean(), results["source_reward"][chosen].sum(-1).mean()
        span = high - low if high > low else np.nan  # a source that is no better than chance
        score = (results["returns"][:, chosen].mean(-1) - low) / span
        scores[name] = {
            "score": float(score.mean()),
            "score_ci95": confidence_interval(score).tolist(),
            "source_return": float(high),
            "random_return": float(low),
        }
    return scores


def table(summary: dict[str, Any]) -> str:
    """What the terminal shows at the end: returns as they are where a ratio says nothing."""
    number = lambda x: "–" if math.isnan(x) else f"{round(x, 2) + 0.0:.2f}"  # and no -0.00
    last = summary["episodes"]
    scaled = all(math.isfinite(summary[name]["final"]) for name in summary["groups"])
    shown, unit = ("normalized", summary["unit"]) if scaled else ("return", "return")
    title = f"{summary['environment']}, {summary['method']}: {unit}"
    lines = [f"\n{title}, in context"]
    marks = sorted({1, 2, 5, 10, last // 2, last} & set(range(1, last + 1)))
    lines.append(
        f"{'episode':>24}" + "".join(f"{m:>7}" for m in marks) + "   last tenth, 95 % interval"
    )
    for name in summary["groups"]:
        split = summary[name]
        values = "".join(f"{number(split[shown][m - 1]):>7}" for m in marks)
        low, high = map(number, split["final_ci95"])
        score = f"   score {number(split['score'])}" if "score" in split else ""
        lines.append(
            f"{evaluate.LABELS.get(name, name):>10} ({split['tasks']:>5} tasks){values}"
            f"   {number(split['final'])} [{low}, {high}]{score}"
        )
    seconds = summary["seconds"]
    tested = summary[summary["groups"][0]]
    random = tested["random_normalized"] if scaled else summary["random_return"]
    lines.append(
        f"random policy: {number(random)}; "
        + ", ".join(f"{k} {v:.0f} s" for k, v in seconds.items())
        + "\n"
    )
    return "\n".join(lines)
