"""Pictures of a grid world: returns over the map, and a rollout."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image, ImageDraw, ImageFont

from ad_jax.evaluation.statistics import last_tenth
from experiments.pictures import style
from experiments.pictures.curves import LABELS, sample
from experiments.pictures.rollouts import GIF_EPISODES, episode_ends, median_task, shown_episodes
from experiments.stages.evaluate import is_tested

_CELL = 36  # pixels


def draw(
    env: Any, params: Any, results: dict, reference: np.ndarray, summary: dict, folder: Any
) -> list[str]:
    """Writes goals.png, its PDF and rollout.gif; returns their names."""
    figure = goals(results, params, reference, env.size, summary)
    rollout(results, params, reference, env.size, folder / "rollout.gif")
    return [*style.save(figure, folder / "goals.png"), "rollout.gif"]


def goals(
    results: dict[str, np.ndarray], params: Any, optimum: np.ndarray, size: int,
    summary: dict[str, Any],
) -> Figure:  # fmt: skip
    """Final return by the cell of the goal (or of the key, and of the door), as maps."""
    final = last_tenth(results["returns"]).mean((1, 2)) / optimum
    places = _places(params)
    figure, panels = style.panels(1, len(places), (4.2 * len(places) + 0.8, 4.2))
    for axes, (name, cell) in zip(panels[0], places.items(), strict=True):
        index = cell[:, 1] * size + cell[:, 0]
        count = np.bincount(index, minlength=size**2)
        total = np.bincount(index, np.nan_to_num(final), minlength=size**2)
        mean = np.where(count, total / np.maximum(count, 1), np.nan).reshape(size, size)
        image = axes.imshow(mean, vmin=0, vmax=1, cmap="viridis")
        for x, y in {tuple(c) for c in cell[is_tested(results["group"])].tolist()}:
            outline = Rectangle((x - 0.42, y - 0.42), 0.84, 0.84, fill=False, color="white", lw=1.5)
            outline.set_path_effects([withStroke(linewidth=3.5, foreground="black")])
            axes.add_patch(outline)
        axes.set_title(f"by the cell of the {name}", fontsize=10)
        axes.set_xlabel("column")
        axes.set_ylabel("row")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.get_major_locator().set_params(integer=True)
    figure.colorbar(image, ax=panels[0].tolist(), shrink=0.8, label=summary["unit"])
    figure.suptitle(f"{summary['environment']}: return at the end", fontsize=11)
    tested = LABELS[results["group"][0]]
    which = tested if len(places) == 1 else f"cells of {tested}"
    text = (
        f"Means over the last tenth of the episodes and {sample(summary)}. "
        f"Outlined: {which}; blank: cells without an evaluated task."
    )
    style.explain(figure, text, summary["preset"])
    return figure


def rollout(
    results: dict[str, np.ndarray], params: Any, optimum: np.ndarray, size: int, path: Any
) -> None:
    """Writes an animation of the tested task whose first rollout ends at the median return."""
    task = median_task(results, optimum)
    observation, reward = results["observation"][task], results["reward"][task]
    ends = episode_ends(results, task)
    returns = [reward[a:b].sum() for a, b in zip(np.append(0, ends[:-1]), ends, strict=True)]
    marks = {name: cell[task] for name, cell in _places(params).items()}

    frames, durations = [], []
    for episode in shown_episodes(len(ends)):
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
    side, header, bars = size * _CELL, 26, 54
    image = Image.new("RGB", (side, side + header + bars), "#101418")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(14)
    text = f"episode {episode}   return {rewards.sum():.0f}"
    draw.text((6, 4), text, fill="white", font=font)
    box = lambda cell, pad: [
        cell[0] * _CELL + pad, header + cell[1] * _CELL + pad,
        (cell[0] + 1) * _CELL - pad, header + (cell[1] + 1) * _CELL - pad,
    ]  # fmt: skip
    for x in range(size):
        for y in range(size):
            draw.rectangle(box((x, y), 1), fill="#1d252c")
    for (name, cell), color in zip(marks.items(), ("#2ecc71", "#f1c40f"), strict=False):
        draw.rectangle(box(cell, 2), outline=color, width=3)
        draw.text((box(cell, 8)[0], box(cell, 8)[1]), name[0].upper(), fill=color, font=font)
    centre = lambda cell: tuple((np.array(box(cell, 0)[:2]) + _CELL // 2).tolist())
    if len(path_cells) > 1:
        draw.line([centre(c) for c in path_cells], fill="#5dade2", width=3)
    draw.ellipse(box(path_cells[-1], 9), fill="#e74c3c")
    base, height = side + header + bars - 4, bars - 14
    width = side / max(GIF_EPISODES, len(returns))
    for i, value in enumerate([*returns[:-1], rewards.sum()]):
        top = base - height * float(value) / float(optimum)
        left, right = i * width, (i + 1) * width - 1
        draw.rectangle([left, min(top, base - 1), max(left, right), base], fill="#e74c3c")
    return image.quantize(16)


def _places(params: Any) -> dict[str, np.ndarray]:
    """The cells that make a task: {"goal": int [task, 2]}, or the key and the door."""
    fields = {name: np.asarray(value) for name, value in vars(params).items()}
    return {name: value for name, value in fields.items() if value.ndim == 2}
