"""Exports a trained model as a learner to share: weights, results and a model card.

    python -m experiments.export --workdir=runs/dark_room --name=dark_room --to=learners

``NAME.safetensors`` is what ``ad_jax.load`` reads, ``NAME.json`` holds the run's summary, and
``NAME.md``, the card, is made from it.
"""

import argparse
import importlib
import inspect
import pkgutil
import re
import sys
from typing import Any

import jax
import ml_collections

from ad_jax.config import base, flat
from ad_jax.errors import UserError
from ad_jax.learner import SUFFIX, load
from ad_jax.paths import as_path
from data_pipelines.files import read_json, write_json, write_text_atomically
from experiments import configs
from experiments.runtime import logs
from experiments.runtime.interruption import Interruption, end_well
from experiments.runtime.workdir import Folders
from experiments.stages import evaluate, report


def export(workdir: str, name: str, folder: str, seed: int | None = None, note: str = "") -> None:
    """Writes the three files of a learner.

    Args:
      workdir: of a run with a report.
      name: of the learner.
      folder: where the files go.
      seed: the training seed whose model is exported; the first one if None.
      note: a sentence about the results, for the card.

    Raises:
      UserError: the run has no report, or ``name`` is not a valid file name.
    """
    if not re.fullmatch(r"\w+", name):
        raise UserError(f"--name={name}: give letters, digits and _")
    learner = load(workdir, seed=seed)
    path = Folders(workdir).report / report.SUMMARY
    if not path.exists():
        raise UserError(f"{workdir} has no report: run all of its stages first")
    to = as_path(folder)
    to.mkdir(parents=True, exist_ok=True)
    learner.save(to / f"{name}{SUFFIX}")
    results = {
        "name": name,
        "command": command(learner.config),
        "parameters": sum(x.size for x in jax.tree.leaves(learner.params)),
        "world": inspect.getdoc(type(learner.env)).splitlines()[0].rstrip("."),
        "training_tasks": len(learner.tasks.train),
        "note": note,
        "config": learner.config.to_dict(),
        "summary": read_json(path, "run the stage 'report' again"),
    }
    write_json(to / f"{name}.json", results)
    write_text_atomically(to / f"{name}.md", card(results))


_CARD = """# {name}

A frozen {core} that learns tasks of {environment} in its context, trained by ad_jax
(method {method}). It reads the observations, actions and rewards of the episodes so far, and needs
no gradient step on a new task.

```python
import ad_jax

learner = ad_jax.load("{name}")  # or the path of {name}.safetensors
state = learner.reset(seed=0)
action, state = learner.act(state, observation, reward, done)
```

| | |
|---|---|
| world | {world} |
| data | {data} |
| model | {core}, {parameters:,} parameters, a context of {context} steps |
| made by | `{command}` |
| version | {version}, commit {commit}, jax {jax} |
| time | {seconds}, on {device} |
| licence | Apache-2.0 |

## Results

{unit} by episode, from an empty context, with sampled actions (temperature
{temperature}): mean over tasks and {rollouts} rollouts of each. "End" is the last tenth of the
episodes, with a 95 % interval for {models}, not for the training procedure.
"Fail" is the fraction of rollouts below 0.5 at the end, on all tasks and on the
worst one.

| tasks | {marks} | end | fail | worst |
|{ruler}
{rows}

On {tested} tasks, the {reference} is {optimum:.2f}, and a random policy gets {random:.2f}.
{notes}
## Limits

It was trained for one kind of environment: its observations, actions, rewards and episode length.
Elsewhere it is no better than a random policy. A rollout that does not find the reward early may
stop looking for it.
"""


def card(results: dict[str, Any]) -> str:
    """The model card of a learner.

    Args:
      results: what ``export`` has written as NAME.json.
    """
    summary, config = results["summary"], results["config"]
    groups, last = summary["groups"], summary["episodes"]
    label = lambda group: evaluate.LABELS.get(group, group)
    marks = [m for m in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if m <= last]
    scores = [
        f"{summary[group]['score']:.2f} on {label(group)} tasks"
        for group in groups
        if "score" in summary[group]
    ]
    notes = [results["note"]] if results["note"] else []
    if scores:
        notes.append(f"Score (r - r_random) / (r_source - r_random): {', '.join(scores)}.")
    seeds = len(summary["seeds"])
    unit = summary.get("unit", f"return / {summary['reference']}")  # without one: older versions
    return _CARD.format(
        **{key: results[key] for key in ("name", "world", "parameters", "command")},
        **{key: summary[key] for key in ("environment", "version", "commit", "jax", "device")},
        reference=summary["reference"],
        unit=unit[0].upper() + unit[1:],
        core=config["model"]["core"],
        context=config["model"]["context"],
        method=config["method"],
        temperature=config["evaluation"]["temperature"],
        rollouts=summary["rollouts_per_task"],
        data=_data(results),
        seconds=", ".join(f"{stage} {value:.0f} s" for stage, value in summary["seconds"].items()),
        models="one trained model" if seeds == 1 else f"{seeds} trained models",
        marks=" | ".join(map(str, marks)),
        ruler="---|" * (len(marks) + 4),
        rows="\n".join(_row(label(group), summary[group], marks) for group in groups),
        tested=label(groups[0]),
        optimum=summary["optimal_return"],
        random=summary["random_return"],
        notes="".join(f"\n{note}\n" for note in notes),
    )


def _data(results: dict[str, Any]) -> str:
    source = results["summary"].get("source")
    if source is None:
        return f"its own experience in {results['training_tasks']:,} training tasks"
    every = results["config"]["train"]["keep_every"]
    kept = f", of which every {every}th episode was kept" if every > 1 else ""
    return (
        f"histories of {source['name']} on {results['training_tasks']:,} tasks, "
        f"{source['env_steps_total']:,} steps{kept}"
    )


def _row(label: str, group: dict[str, Any], marks: list[int]) -> str:
    values = [f"{group['normalized'][m - 1]:.2f}" for m in marks]
    low, high = group["final_ci95"]
    tasks = f"{group['tasks']} {label}"
    end = f"**{group['final']:.2f}** [{low:.2f}, {high:.2f}]"
    fail = f"{group['below_half']:.1%}", f"{group['below_half_worst_task']:.0%}"
    return f"| {' | '.join([tasks, *values, end, *fail])} |"


def command(config: ml_collections.ConfigDict) -> str:
    """The command that made a run: its preset, and the settings that differ from it."""
    given = flat(config.to_dict())
    for module in pkgutil.iter_modules(configs.__path__):
        made = importlib.import_module(f"{configs.__name__}.{module.name}")
        if config.preset in getattr(made, "PRESETS", ()):
            preset = made.get_config(config.preset)
            if preset.env.name == config.env.name:
                usual = flat(base(preset).to_dict()) | flat(preset.to_dict())
                changes = [f"--config.{k}={v}" for k, v in given.items() if v != usual.get(k)]
                name = f"--config={module.name}:{config.preset}"
                return " ".join(["python -m experiments.run", name, *changes])
    return "python -m experiments.run with a config of its own"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.export")
    parser.add_argument("--workdir", required=True, help="workdir of a finished run")
    parser.add_argument("--name", required=True, help="name of the learner: letters, digits and _")
    parser.add_argument("--to", required=True, help="folder for the learner's three files")
    parser.add_argument("--seed", type=int, help="training seed to export; by default the first")
    parser.add_argument("--note", default="", help="a sentence for the model card")
    options = parser.parse_args(arguments)
    logs.set_level(None)
    export(options.workdir, options.name, options.to, options.seed, options.note)
    for suffix in (SUFFIX, ".json", ".md"):
        print(as_path(options.to) / f"{options.name}{suffix}")


def entry_point() -> None:
    """Runs ``main``."""
    end_well(lambda: main(sys.argv[1:]), Interruption())


if __name__ == "__main__":
    entry_point()
