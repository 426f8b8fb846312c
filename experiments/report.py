"""Stage 4: pictures, a table and a summary of a run."""

import contextlib
import json
from typing import Any

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import ml_collections
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ad_jax.checkpoint import Checkpoints
from ad_jax.envs import dynamic_programming
from ad_jax.errors import UserError
from ad_jax.evaluation.statistics import confidence_interval
from data_pipelines.files import write_atomically
from data_pipelines.writer import PROVENANCE
from experiments import build, evaluate
from experiments.interruption import Interruption
from experiments.workdir import Workdir

SUMMARY = "summary.json"
PICTURES = ("learning_curve.png", "goals.png", "rollout.gif")
HELDOUT, TRAIN, SOURCE, BOUND = "#c0392b", "#2471a3", "#7d8a8c", "#444444"
_GIF_EPISODES = 20
_GIF_CELL = 36  # pixels


def done(config: ml_collections.ConfigDict, workdir: Workdir) -> bool:
    """Whether the summary, which is written last, is there."""
    return (workdir.report / SUMMARY).exists()


def run(config: ml_collections.ConfigDict, workdir: Workdir, interruption: Interruption) -> None:
    """Draws the pictures, prints the table, writes the summary."""
    if not evaluate.done(config, workdir):
        raise UserError(f"{workdir.evaluation} holds no results: run the stage 'evaluate' first")
    world = build.world(config)
    results = dict(np.load(workdir.evaluation / evaluate.RESULTS))
    params = world.tasks.params(results["task"])
    optimum, chance = jax.jit(
        jax.vmap(
            lambda p: (
                dynamic_programming.optimal_return(world.env, p),
                dynamic_programming.random_return(world.env, p),
            )
        )
    )(params)
    optimum, chance = np.asarray(optimum), np.asarray(chance)
    provenance = json.loads((workdir.histories / PROVENANCE).read_text())

    summary = summarize(config, workdir, world.env.name, results, optimum, chance, provenance)
    workdir.report.mkdir(exist_ok=True)
    learning_curve(summary, workdir.report / "learning_curve.png")
    goals(results, params, optimum, world.env.size, workdir.report / "goals.png")
    rollout(results, params, optimum, world.env.size, workdir.report / "rollout.gif")
    write_atomically(workdir.report / SUMMARY, json.dumps(summary, indent=1))
    print(table(summary))
    for name in (*PICTURES, SUMMARY):
        print(workdir.report / name)


def summarize(
    config: ml_collections.ConfigDict,
    workdir: Workdir,
    name: str,
    results: dict[str, np.ndarray],
    optimum: np.ndarray,
    chance: np.ndarray,
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """The figures of a run; see the README for what each is."""
    with contextlib.closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        training = checkpoints.metadata(checkpoints.latest_step())

    def split(chosen: np.ndarray) -> dict[str, Any]:
        returns = results["returns"][chosen]
        normalized = returns / optimum[chosen, None, None]
        last = max(1, returns.shape[-1] // 10)
        return {
            "tasks": int(chosen.sum()),
            "return": returns.mean((0, 1)).tolist(),
            "normalized": normalized.mean((0, 1)).tolist(),
            "ci95": confidence_interval(normalized).tolist(),
            "per_task_final": normalized[..., -last:].mean((1, 2)).tolist(),
        }

    heldout = results["heldout"]
    return {
        "environment": name,
        "method": config.method,
        "preset": config.preset,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
        "episodes": config.evaluation.episodes,
        "rollouts_per_task": config.evaluation.rollouts,
        "seeds": [config.seed],
        "heldout": split(heldout),
        "train": split(~heldout),
        "source": {
            "return": provenance["mean_return_by_episode"],
            "env_steps_total": provenance["env_steps"],
        },
        "optimal_return": float(optimum[heldout].mean()),
        "random_return": float(chance[heldout].mean()),
        "seconds": {
            "collect": provenance["seconds"],
            "train": training["seconds"],
            "evaluate": float(results["seconds"]),
        },
        "throughput": {
            "collect_env_steps_per_s": provenance["env_steps"] / provenance["seconds"],
            "train_transitions_per_s": training["transitions_per_s"],
            "evaluate_env_steps_per_s": float(results["env_steps"] / results["seconds"]),
        },
    }


def table(summary: dict[str, Any]) -> str:
    """What the terminal shows at the end."""
    last = summary["episodes"]
    lines = [
        f"\n{summary['environment']}, {summary['method']}: return / optimal return, in context"
    ]
    marks = sorted({1, 2, 5, 10, last // 2, last} & set(range(1, last + 1)))
    lines.append(
        f"{'episode':>24}" + "".join(f"{m:>7}" for m in marks) + "   95 % interval at the end"
    )
    for name, label in (("heldout", "held-out"), ("train", "training")):
        split = summary[name]
        values = "".join(f"{split['normalized'][m - 1]:7.2f}" for m in marks)
        low, high = split["ci95"][-1]
        lines.append(f"{label:>10} ({split['tasks']:>5} tasks){values}   [{low:.2f}, {high:.2f}]")
    seconds = summary["seconds"]
    lines.append(
        f"a random policy has {summary['random_return'] / summary['optimal_return']:.2f}; "
        + ", ".join(f"{k} {v:.0f} s" for k, v in seconds.items())
        + "\n"
    )
    return "\n".join(lines)


def learning_curve(summary: dict[str, Any], path: Any) -> None:
    """Return by in-context episode, with its interval, its bounds, and the source's curve."""
    figure, axes = plt.subplots(figsize=(7.2, 4.2), dpi=120)
    optimum = summary["optimal_return"]
    episode = np.arange(1, summary["episodes"] + 1)
    for name, label, color in (
        ("heldout", "held-out goals, in context", HELDOUT),
        ("train", "training goals, in context", TRAIN),
    ):
        split = summary[name]
        low, high = np.array(split["ci95"]).T
        axes.plot(episode, split["normalized"], color=color, label=f"{label} ({split['tasks']})")
        axes.fill_between(episode, low, high, color=color, alpha=0.2, lw=0)
    source = np.array(summary["source"]["return"]) / optimum
    axes.plot(
        np.arange(1, len(source) + 1), source, color=SOURCE, ls="--", label="source, one stream"
    )
    axes.axhline(1, color=BOUND, lw=0.8, ls=":")
    axes.annotate("optimum", (1, 1), (0, 3), textcoords="offset points", color=BOUND, fontsize=8)
    chance = summary["random_return"] / optimum
    axes.axhline(chance, color=BOUND, lw=0.8, ls=":")
    axes.annotate(
        "random policy", (summary["episodes"], chance), (0, 3),
        textcoords="offset points", color=BOUND, fontsize=8, ha="right",
    )  # fmt: skip
    axes.set_xlim(1, max(2, summary["episodes"]))
    axes.set_ylim(0, 1.1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("episode")
    axes.set_ylabel("return / optimal return")
    axes.set_title(f"{summary['environment']}: learning in context, weights frozen")
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(0.01, 0.9))
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def goals(
    results: dict[str, np.ndarray], params: Any, optimum: np.ndarray, size: int, path: Any
) -> None:
    """Final return by the cell of the goal (or of the key, and of the door), as maps."""
    last = max(1, results["returns"].shape[-1] // 10)
    final = (results["returns"] / optimum[:, None, None])[..., -last:].mean((1, 2))
    places = _places(params)
    figure, panels = plt.subplots(
        1, len(places), figsize=(4.6 * len(places) + 0.8, 4.4), dpi=120, squeeze=False
    )
    for axes, (name, cell) in zip(panels[0], places.items(), strict=True):
        index = cell[:, 1] * size + cell[:, 0]
        count = np.bincount(index, minlength=size**2)
        total = np.bincount(index, final, minlength=size**2)
        mean = np.where(count, total / np.maximum(count, 1), np.nan).reshape(size, size)
        image = axes.imshow(mean, vmin=0, vmax=1, cmap="viridis")
        for x, y in {tuple(c) for c in cell[results["heldout"]].tolist()}:
            axes.add_patch(
                plt.Rectangle((x - 0.45, y - 0.45), 0.9, 0.9, fill=False, color=HELDOUT, lw=2)
            )
        axes.set_title(f"final return / optimum by cell of the {name}", fontsize=10)
        axes.set_xlabel(
            "outlined: held-out tasks" if len(places) == 1 else "outlined: in a held-out task"
        )
        axes.set_xticks([])
        axes.set_yticks([])
    figure.colorbar(image, ax=panels[0].tolist(), shrink=0.8)
    figure.savefig(path)
    plt.close(figure)


def rollout(
    results: dict[str, np.ndarray], params: Any, optimum: np.ndarray, size: int, path: Any
) -> None:
    """The first rollout on the held-out task of median final return, step by step."""
    last = max(1, results["returns"].shape[-1] // 10)
    final = (results["returns"] / optimum[:, None, None])[..., -last:].mean((1, 2))
    heldout = np.flatnonzero(results["heldout"])
    task = heldout[np.argsort(final[heldout])[len(heldout) // 2]]
    observation, reward = results["observation"][task], results["reward"][task]
    ends = np.flatnonzero(results["is_last"][task]) + 1
    episodes = len(ends)
    shown = np.unique(
        np.linspace(0, episodes - 1, min(episodes, _GIF_EPISODES)).round().astype(int)
    )
    returns = [reward[a:b].sum() for a, b in zip(np.append(0, ends[:-1]), ends, strict=True)]
    marks = {name: cell[task] for name, cell in _places(params).items()}

    frames, durations = [], []
    for episode in shown:
        begin, end = (0 if episode == 0 else ends[episode - 1]), ends[episode]
        for step in range(begin, end):
            frames.append(
                _frame(observation[begin : step + 1], reward[begin:step], size, marks,
                       episode + 1, returns[: episode + 1], optimum[task])
            )  # fmt: skip
            durations.append(400 if step == end - 1 else 60)
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True
    )


def _frame(path_cells, rewards, size, marks, episode, returns, optimum) -> Image.Image:
    """The room with the agent's path in this episode, over a bar for each episode's return."""
    side, header, bars = size * _GIF_CELL, 26, 54
    image = Image.new("RGB", (side, side + header + bars), "#101418")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(14)
    text = f"episode {episode}   return {rewards.sum():.0f}"
    draw.text((6, 4), text, fill="white", font=font)
    box = lambda cell, pad: [
        cell[0] * _GIF_CELL + pad, header + cell[1] * _GIF_CELL + pad,
        (cell[0] + 1) * _GIF_CELL - pad, header + (cell[1] + 1) * _GIF_CELL - pad,
    ]  # fmt: skip
    for x in range(size):
        for y in range(size):
            draw.rectangle(box((x, y), 1), fill="#1d252c")
    for (name, cell), color in zip(marks.items(), ("#2ecc71", "#f1c40f"), strict=False):
        draw.rectangle(box(cell, 2), outline=color, width=3)
        draw.text((box(cell, 8)[0], box(cell, 8)[1]), name[0].upper(), fill=color, font=font)
    centre = lambda cell: tuple((np.array(box(cell, 0)[:2]) + _GIF_CELL // 2).tolist())
    if len(path_cells) > 1:
        draw.line([centre(c) for c in path_cells], fill="#5dade2", width=3)
    draw.ellipse(box(path_cells[-1], 9), fill="#e74c3c")
    base, height = side + header + bars - 4, bars - 14
    width = max(2.0, side / max(_GIF_EPISODES, len(returns)))
    for i, value in enumerate([*returns[:-1], rewards.sum()]):
        top = base - height * float(value) / float(optimum)
        draw.rectangle(
            [i * width + 1, min(top, base - 1), (i + 1) * width - 1, base], fill="#e74c3c"
        )
    return image.quantize(16)


def _places(params: Any) -> dict[str, np.ndarray]:
    """The cells that make a task: {"goal": int [task, 2]}, or the key and the door."""
    fields = {name: np.asarray(value) for name, value in vars(params).items()}
    return {name: value for name, value in fields.items() if value.ndim == 2}
