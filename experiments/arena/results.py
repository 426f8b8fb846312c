"""The results of the arena: numbers and pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ad_jax import build
from ad_jax.evaluation import statistics
from ad_jax.methods.train_state import init_params
from experiments import compare
from experiments.arena import entries
from experiments.figures import panels, work
from experiments.figures.fig16_efficiency import PART
from experiments.figures.runs import Results
from experiments.pictures import style
from experiments.stages import evaluate


def summary(results: Mapping[str, Mapping[str, Results]]) -> dict[str, Any]:
    """Everything that is reported, as JSON values.

    Args:
      results: by the names of the environment and of the entry.

    Returns:
      A dict of three:

      ``methods``: for each entry and environment, its scores on held-out tasks, normalised so that
      0 is the random and 1 the optimal policy, by episode, or by step if there is one episode.
      ``curve`` and ``mean`` (over the curve's last tenth) have 95 % intervals ``_ci95`` over
      training seeds, tasks and rollouts. From each model's mean score on each task, in that last
      tenth: ``profile``, the fraction of them above each threshold, and ``improvement``, the
      probability of improvement over ``first``, the environment's first entry. ``return`` is the
      return in the last tenth, not normalised; ``regret`` is given if there is one episode;
      ``to_80`` is the first episode or step with a mean score of at least 0.8, or None;
      ``shifted`` has the mean scores in shifted task distributions; ``parameters`` is the number of
      parameters; ``run`` has the run's size and costs.

      ``worlds``: for each environment, its held-out tasks, the mean optimal return (1 if it is not
      known), the mean random return, and ``from_scratch``: for each source learner, its name and
      its score in the last tenth of its episodes, or its regret, with a 95 % interval over tasks.

      ``thresholds``: those of the profiles.
    """
    methods: dict[str, dict[str, Any]] = {}
    worlds = {}
    for world, of_world in results.items():
        learners = {name: x for name, x in of_world.items() if name not in entries.FROM_SCRATCH}
        first = next(iter(learners.values()))
        shown = compare.compare({name: _scores(found) for name, found in learners.items()})
        for name, found in learners.items():
            methods.setdefault(name, {})[world] = {
                key: panels.rounded(value) for key, value in shown[name].items()
            } | {
                "seeds": shown[name]["seeds"],
                "return": panels.point(statistics.last_tenth(found.of_group()).mean(-1)),
                "to_80": _first_above(np.array(shown[name]["curve"]), PART),
                "shifted": {
                    group: panels.point(statistics.last_tenth(_scores(found, group)).mean(-1))
                    for group in dict.fromkeys(found.group.tolist())
                    if group not in (evaluate.HELDOUT, evaluate.TRAIN)
                },
                "parameters": num_parameters(found),
                "run": work.scale(found),
            }
            if _by_step(found):
                regret = (found.optimum[:, None, None] - found.returns).mean(-1)
                of_heldout = regret[:, found.group == evaluate.HELDOUT]
                methods[name][world]["regret"] = panels.point(of_heldout)
        tested = first.group == evaluate.HELDOUT
        worlds[world] = {
            "environment": first.config.env.name,
            "first": next(iter(learners)),
            "heldout_tasks": int(tested.sum()),
            "optimum": float(first.optimum[tested].mean()),
            "optimum_is_known": first.optimum_is_known,
            "random": float(first.chance[tested].mean()),
            "episode_steps": first.episode_steps,
            "unit": "step" if _by_step(first) else "episode",
        }
        worlds[world]["from_scratch"] = {
            name: _from_scratch(found, _by_step(first))
            for name, found in of_world.items()
            if name in entries.FROM_SCRATCH
        }
    return {"thresholds": compare.THRESHOLDS.tolist(), "methods": methods, "worlds": worlds}


def _by_step(found: Results) -> bool:
    """Whether an evaluation is one episode, so that its curve is by step."""
    return found.returns.shape[-1] == 1


def _scores(found: Results, group: str = evaluate.HELDOUT) -> np.ndarray:
    """[seed, task, rollout, episode], or [seed, task, 1, step]."""
    return (found.normalized_by_step if _by_step(found) else found.normalized)(group)


def _from_scratch(found: Results, by_step: bool) -> dict[str, Any]:
    """What a source learner reaches on held-out tasks."""
    tested = found.group == evaluate.HELDOUT
    returns, low, high = (
        np.array(found.source["final_return_by_task"]), found.chance[tested], found.optimum[tested]
    )  # fmt: skip
    scores = high - returns if by_step else ((returns - low) / (high - low))[high > low]
    mean, interval = scores.mean(), statistics.confidence_interval(scores[None, :, None])
    return {
        "name": found.config.source.name,
        "regret" if by_step else "mean": float(mean),
        "ci95": panels.rounded(interval),
    }


def num_parameters(results: Results) -> int:
    """The number of parameters of one model."""
    model = build.model(results.config, build.world(results.config).env)
    shapes = jax.eval_shape(lambda key: init_params(key, model), jax.random.key(0))
    return sum(x.size for x in jax.tree.leaves(shapes))


def _first_above(score: np.ndarray, level: float) -> int | None:
    """The first episode or step, counted from 1, whose score is a level or more."""
    above = np.flatnonzero(score >= level)
    return int(above[0]) + 1 if len(above) else None


def table(made: Mapping[str, Any]) -> str:
    """Scores of all entries in all worlds, for a terminal."""
    worlds, methods = made["worlds"], made["methods"]
    width = max(map(len, methods))
    lines = [f"{'':{width}}  " + "  ".join(f"{world:>18}" for world in worlds)]
    for name, of_name in methods.items():
        cells = []
        for world in worlds:
            found = of_name.get(world)
            low, high = found["mean_ci95"] if found else (0, 0)
            cells.append(f"{found['mean']:.2f} [{low:.2f}, {high:.2f}]" if found else "–")
        lines.append(f"{name:{width}}  " + "  ".join(f"{cell:>18}" for cell in cells))
    what = f"{panels.SCORE}, last tenth of the episodes or steps, held-out tasks"
    return "\n".join([*lines, what])


def pictures(made: Mapping[str, Any]) -> dict[str, Figure]:
    """All pictures by name, of what ``summary`` returns, with the preset."""
    drawn = {}
    for group, names in entries.PICTURES.items():
        if _shown(made, names):
            drawn[group] = draw_curves(made, names)
            drawn[f"{group}_profiles"] = draw_profiles(made, names)
    return drawn


def draw_curves(made: Mapping[str, Any], names: Sequence[str]) -> Figure:
    """Scores by episode, a panel for each world.

    Args:
      made: what ``summary`` returns, with the preset.
      names: of the entries.
    """
    title, x_of = "Learning in context on held-out tasks", lambda y: np.arange(1, len(y) + 1)
    figure = _draw(made, names, "curve", x_of, title, "", panels.SCORE)
    for axes, world in zip(figure.axes, _shown(made, names), strict=False):
        axes.set_xlabel(made["worlds"][world]["unit"])
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(-0.25, 1.15)
        known = made["worlds"][world]["optimum_is_known"]
        style.bounds(axes, {"optimum" if known else "bound": 1.0, "random": 0.0})
    return figure


def draw_profiles(made: Mapping[str, Any], names: Sequence[str]) -> Figure:
    """Performance profiles, a panel for each world; the arguments are those of ``draw_curves``."""
    title = "Performance profiles over the last tenth of the episodes or steps"
    x, label = np.array(made["thresholds"]), f"threshold: {panels.SCORE}"
    ylabel = "fraction of scores above"
    figure = _draw(made, names, "profile", lambda _: x, title, label, ylabel)
    for axes in figure.axes:
        axes.set_ylim(-0.05, 1.05)
    return figure


def _shown(made: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Worlds in which there is something to compare."""
    found = [of_name for name, of_name in made["methods"].items() if name in names]
    return [world for world in made["worlds"] if sum(world in m for m in found) > 1]


def _draw(made, names, key: str, x_of, title: str, xlabel: str, ylabel: str) -> Figure:
    shown = {name: made["methods"][name] for name in names if name in made["methods"]}
    worlds = _shown(made, names)
    columns = min(3, len(worlds))
    rows = -(-len(worlds) // columns)
    figure, axes = style.panels(rows, columns, (max(6.4, 4.6 * columns), 3.9 * rows))
    for ax in axes.flat[len(worlds) :]:
        ax.set_visible(False)
    for ax, world in zip(axes.flat, worlds, strict=False):
        for i, (name, of_name) in enumerate(shown.items()):
            if found := of_name.get(world):
                x, drawn = x_of(found[key]), style.number(name, i)
                ax.plot(x, found[key], label=name.replace("RL2", "RL²"), **style.line(drawn))
                style.band(ax, x, *np.array(found[f"{key}_ci95"]).T, drawn)
        ax.set(title=made["worlds"][world]["environment"], xlabel=xlabel, ylabel=ylabel)
    figure.suptitle(title, fontsize=11)
    seeds = max(w["seeds"] for of_name in shown.values() for w in of_name.values())
    style.explain(
        figure,
        f"Lines: means over tasks, rollouts and {style.counted(seeds, 'training seed')}; bands: "
        f"95 % interval over {style.sampled(seeds)}.",
        made["preset"],
        style.named(*axes.flat[: len(worlds)]),
    )
    return figure
