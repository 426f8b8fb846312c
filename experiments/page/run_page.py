"""The report of a run as one page: curves, goals, rollouts to step through, settings, times."""

import base64
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from ad_jax.evaluation.statistics import last_tenth
from ad_jax.paths import Path
from experiments.page import scenes
from experiments.pictures.rollouts import episode_ends, shown_episodes
from experiments.stages.evaluate import LABELS, is_tested

_TASKS = {True: 24, False: 12}  # the most tasks with rollouts in the page: tested ones, others
_EPISODES = 40  # of each rollout


def document(
    env: Any,
    params: Any,
    results: dict[str, np.ndarray],
    zero: np.ndarray,
    reference: np.ndarray,
    chance: np.ndarray,
    summary: dict[str, Any],
    config: dict[str, Any],
    pictures: Iterable[Path],
) -> dict[str, Any]:
    """What page.html draws.

    Args:
      env: the environment.
      params: EnvParams of the evaluated tasks, with a leading axis.
      results: of the stage "evaluate", with returns ``by_task``.
      zero, reference: float [task], the returns that normalise to 0 and to 1.
      chance: float [task], of a random policy.
      summary: of the run, JSON values.
      config: of the run, JSON values.
      pictures: files to show; PNG or GIF.
    """
    span = np.where(reference > zero, reference - zero, np.nan)
    final = (last_tenth(results["returns"]).mean((1, 2)) - zero) / span
    of_task = lambda i: jax.tree.map(lambda leaf: leaf[i], params)
    tasks = [
        {
            "task": int(task),
            "group": str(group),
            "final": None if np.isnan(value) else round(float(value), 3),
            "places": scenes.task(env, of_task(i)),
        }
        for i, (task, group, value) in enumerate(
            zip(results["task"], results["group"], final, strict=True)
        )
    ]
    chosen = _chosen(is_tested(results["group"]), final)
    return {
        "live": False,
        "title": f"{summary['environment']}, {summary['method']}: learning in context",
        "world": scenes.world(env),
        "choices": [(n, _name(tasks[i])) for n, i in enumerate(chosen)],
        "rollouts": [
            {
                **tasks[i],
                **_steps(results, i),
                "best": None if summary["reference"] == "one" else float(reference[i]),
                "random": float(chance[i]),
            }
            for i in chosen
        ],
        "tasks": tasks,
        "summary": summary,
        "config": config,
        "pictures": [(path.name, _embedded(path)) for path in pictures],
    }


def _chosen(tested: np.ndarray, final: np.ndarray) -> list[int]:
    """Indices of tasks from the whole range of returns, those that are tested first."""
    indices: list[int] = []
    for group in (True, False):
        of_group = np.flatnonzero(tested == group)
        order = of_group[np.argsort(-np.nan_to_num(final[of_group]), kind="stable")]
        count = min(len(order), _TASKS[group])
        picked = order[np.linspace(0, len(order) - 1, count).round().astype(int)]
        middle = len(picked) // 2  # the median is shown first
        indices += np.roll(picked, -middle).tolist()
    return indices


def of_predictions(summary: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """What page.html draws of a run that has no environment to act in.

    Args:
      summary: of ``stages.predictions``, JSON values.
      config: of the run, JSON values.
    """
    return {
        "live": False,
        "title": f"{summary['environment']}, {summary['method']}: the source's next action",
        "world": {"kind": "none", "places": []},
        "choices": [],
        "summary": summary,
        "config": config,
    }


def _name(task: dict[str, Any]) -> str:
    final = "" if task["final"] is None else f": {task['final']:.2f} at the end"
    group = LABELS.get(task["group"], task["group"])
    return f"{group} {task['task']}{final}"


def _steps(results: dict[str, np.ndarray], i: int) -> dict[str, Any]:
    """The steps of a task's first rollout, in at most ``_EPISODES`` of its episodes."""
    last, ends = results["is_last"][i], episode_ends(results, i)
    begins = np.append(0, ends[:-1])
    episodes = shown_episodes(len(ends), _EPISODES)
    kept = np.concatenate([np.arange(begins[e], ends[e]) for e in episodes])
    number = np.repeat(episodes + 1, ends[episodes] - begins[episodes])
    fields = {
        "observation": results["observation"][i][kept],
        "reward": results["reward"][i][kept],
        "last": last[kept].astype(int),
        "number": number,
    }
    if "action" in results:  # not in those of older versions
        fields["action"] = results["action"][i][kept]
    return {name: _rounded(values) for name, values in fields.items()}


def _rounded(values: np.ndarray) -> list:
    if values.dtype.kind == "f":
        values = values.astype(float).round(4)
        if np.array_equal(values, whole := values.astype(int)):
            values = whole
    return values.tolist()


def _embedded(path: Path) -> str:
    kind = {".png": "image/png", ".gif": "image/gif"}[path.suffix]
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
