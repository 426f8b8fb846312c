"""Evaluation and report for recorded histories: how well the model predicts the source.

A model that has learned to learn predicts the source's actions better the more of a history it has
seen, even on tasks that it was not trained on.
"""

import json
import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from ad_jax import build
from ad_jax.distributed import processes, sharding
from ad_jax.errors import UserError
from ad_jax.evaluation.statistics import confidence_interval
from ad_jax.methods.train_state import INPUTS
from data_pipelines import windows
from data_pipelines.files import atomic_write, growing, read_json, write_text_atomically
from data_pipelines.reader import Histories, Selection
from data_pipelines.writer import PROVENANCE
from experiments.page.html import html
from experiments.page.run_page import of_predictions
from experiments.pictures import style
from experiments.pictures.curves import LABELS, sample
from experiments.runtime import version
from experiments.runtime.interruption import Interruption
from experiments.runtime.workdir import Workdir
from experiments.stages import evaluate
from experiments.stages.report import PAGE, SUMMARY

PICTURE = "predictions.png"


def run(config: ml_collections.ConfigDict, workdir: Workdir, interruption: Interruption) -> None:
    """Predicts the actions in ``evaluation.rollouts`` windows of each task, and stores how well.

    The results hold:

    - task, int [task], and group, str [task];
    - loss, float [seed, task, window, step of the context], the cross-entropy in nats;
    - agreement, bool, likewise, whether the most probable action was the source's;
    - baseline, float [task], the loss of predicting the action frequencies of the training tasks;
    - device, seconds and steps, and train_seconds and train_transitions_per_s of the training.

    Raises:
      UserError: a task has no history that is as long as the context.
    """
    world = build.world(config)
    mesh = sharding.make_mesh(**config.mesh)
    model = build.model(config, world.env)
    models, training = evaluate.trained(config, workdir.checkpoints, model, mesh)
    histories = Histories(workdir.histories)
    build.check_version(world.env, histories.provenance)
    tasks = evaluate.evaluation_tasks(world, config.evaluation.tasks, config.evaluation.train_tasks)
    schema = histories.schema
    often = _log_frequencies(histories, np.flatnonzero(np.isin(histories.task, world.train)))

    @jax.jit
    def predict(params, raw):
        batch = windows.to_batch(schema, raw)
        out = model.apply(params, **{name: batch[name] for name in INPUTS})
        actions, action = model.actions, batch["action"]
        logits = out[..., : actions.num_logits]
        usual = actions.cross_entropy(jnp.broadcast_to(often, logits.shape), action)
        right = actions.equal(actions.best(logits), action)
        return actions.cross_entropy(logits, action), right, usual

    began = time.perf_counter()
    made: list[list[Any]] = [[] for _ in models]
    for task in tqdm(tasks.ids.tolist(), desc="evaluate", disable=not processes.is_first()):
        interruption.check()
        raw = _windows(config, histories, task)
        for of_seed, params in zip(made, models, strict=True):
            of_seed.append(sharding.fetch(predict(params, raw)))
    loss, agreement, baseline = (
        np.stack([np.stack([part[i] for part in of_seed]) for of_seed in made]) for i in range(3)
    )
    results = {
        "task": tasks.ids,
        "group": tasks.group,
        "loss": loss,
        "agreement": agreement,
        "baseline": baseline[0].mean((1, 2)),
        "device": version.devices(),
        "seconds": time.perf_counter() - began,
        "steps": loss.size,
        **{f"train_{name}": value for name, value in training.items()},
    }
    processes.first_does(lambda: _store(workdir, results))


def _store(workdir: Workdir, results: dict[str, Any]) -> None:
    workdir.evaluation.mkdir(exist_ok=True)
    with atomic_write(workdir.evaluation / evaluate.RESULTS) as path, path.open("wb") as file:
        np.savez_compressed(file, **results)


def _windows(config: ml_collections.ConfigDict, histories: Histories, task: int) -> dict[str, Any]:
    """Raw windows of one task, the same ones each time."""
    with build.named_by_key({"context": "model.context"}):
        sampler = windows.make_sampler(
            histories, selection=Selection(tasks=frozenset([task])), context=config.model.context,
            batch_size=config.evaluation.rollouts, seed=config.seed,
        )  # fmt: skip
    return windows.make_reader(histories, sampler, Selection())(0)


def _log_frequencies(histories: Histories, rows: np.ndarray) -> np.ndarray:
    """Log frequencies of the actions in some rows, with add-one smoothing; float [num_logits]."""
    actions = histories.schema.actions
    counts = [np.ones(size) for size in actions.sizes]
    for row in rows:
        steps = np.arange(histories.lengths[row])
        action = histories.read(np.full(len(steps), row), steps, ("action",))["action"]
        for count, part in zip(counts, actions.components(action).T, strict=True):
            count += np.bincount(part, minlength=len(count))
    return np.concatenate([np.log(count / count.sum()) for count in counts])


def report(config: ml_collections.ConfigDict, workdir: Workdir, interruption: Interruption) -> None:
    """Draws and prints how the predictions improve along the context, and writes the summary."""
    del interruption
    if not evaluate.done(config, workdir):
        raise UserError(f"{workdir.evaluation} holds no results: run the stage 'evaluate' first")
    results = evaluate.load_results(workdir.evaluation)
    collected = read_json(
        workdir.histories / PROVENANCE, "convert the data again, into another workdir"
    )
    groups = list(dict.fromkeys(results["group"].tolist()))
    summary = {
        "environment": collected["environment"]["name"],
        "method": config.method,
        "preset": config.preset,
        "seeds": [config.seed + i for i in range(config.train.seeds)],
        "intervals_over": style.sampled(config.train.seeds, "window"),
        "groups": groups,
        "context": config.model.context,
        "windows_per_task": config.evaluation.rollouts,
        **{group: _summarize(results, results["group"] == group) for group in groups},
        **version.made(),
        "device": str(results["device"]),
        "seconds": {
            "convert": collected["seconds"],
            "train": float(results["train_seconds"]),
            "evaluate": float(results["seconds"]),
        },
    }
    workdir.report.mkdir(exist_ok=True)
    with growing(workdir.report) as (folder, _):
        names = style.save(draw(summary), folder / PICTURE)
        page = html(of_predictions(summary, config.to_dict()))
        (folder / PAGE).write_text(page, encoding="utf-8")
    text = json.dumps(summary, indent=1, allow_nan=False)
    write_text_atomically(workdir.report / SUMMARY, text)
    print(table(summary))
    for name in (*names, SUMMARY, PAGE):
        print(workdir.report / name)


def _summarize(results: dict[str, np.ndarray], chosen: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = {"tasks": int(chosen.sum())}
    for name in ("loss", "agreement"):
        values = results[name][:, chosen].astype(float)  # [seed, task, window, step]
        late = values[..., values.shape[-1] // 2 :].mean(-1)
        found[name] = values.mean((0, 1, 2)).tolist()
        found[f"{name}_ci95"] = confidence_interval(values).tolist()
        found[f"late_{name}"] = float(late.mean())
        found[f"late_{name}_ci95"] = confidence_interval(late).tolist()
    found["baseline_loss"] = float(results["baseline"][chosen].mean())
    return found


def draw(summary: dict[str, Any]) -> Figure:
    """Loss and agreement by the step of the context."""
    figure, [panels] = style.panels(1, 2, (9, 3.8))
    step = np.arange(1, summary["context"] + 1)
    names = {"loss": "cross-entropy (nats)", "agreement": "fraction of actions predicted"}
    for axes, (name, label) in zip(panels, names.items(), strict=True):
        for i, group in enumerate(summary["groups"]):
            split, drawn = summary[group], style.number(group, i)
            text = f"{LABELS.get(group, group)} ({split['tasks']})"
            axes.plot(step, split[name], label=text, **style.line(drawn))
            style.band(axes, step, *np.array(split[f"{name}_ci95"]).T, drawn)
        axes.set_xlabel("steps of the history seen so far")
        axes.set_ylabel(label)
    baseline = summary[summary["groups"][0]]["baseline_loss"]
    style.bounds(panels[0], {"action frequencies": baseline})
    figure.suptitle("The source's next action, predicted by a frozen model", fontsize=11)
    style.explain(
        figure,
        f"Lines: means over tasks and {sample(summary, 'window')}. Bands: "
        f"95 % interval over {summary['intervals_over']}.",
        summary["preset"],
        style.named(panels[0]),
    )
    return figure


def table(summary: dict[str, Any]) -> str:
    """What the terminal shows at the end."""
    lines = ["", f"{summary['environment']}, {summary['method']}: the source's next action"]
    lines.append(f"{'':>24}   loss, later half    agreement, later half    loss of frequencies")
    for group in summary["groups"]:
        split = summary[group]
        low, high = split["late_loss_ci95"]
        less, more = split["late_agreement_ci95"]
        lines.append(
            f"{LABELS.get(group, group):>16} ({split['tasks']:>5})"
            f"   {split['late_loss']:.2f} [{low:.2f}, {high:.2f}]"
            f"   {split['late_agreement']:.2f} [{less:.2f}, {more:.2f}]"
            f"       {split['baseline_loss']:.2f}"
        )
    return "\n".join([*lines, ""])
