"""Figure 2: what the agent sees of the Watermaze, and the room from above."""

from typing import Any

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from ad_jax.envs import raycast
from experiments.figures.figure import Figure
from experiments.pictures.watermaze import beside

_PLATFORM = np.array([400.0, 250.0])
_POSES = ((0, 0, 0.0), (150, -200, 0.8), (300, 100, 0.45))  # x, y in units, yaw in radians


def draw(panels: Any, title: str, path: Any) -> None:
    """Frames of three poses, each beside the map."""
    del panels
    picture = jax.jit(raycast.render)
    figure, axes = plt.subplots(len(_POSES), 1, figsize=(4.6, 6.2), dpi=100)
    for ax, (x, y, yaw) in zip(axes, _POSES, strict=True):
        angle = yaw / (2 * np.pi) * raycast.TURN
        pose = np.rint([x * raycast.POSITION_SCALE, y * raycast.POSITION_SCALE, angle])
        pose = pose.astype(np.int32)[None]
        ax.imshow(beside(np.asarray(picture(pose))[0], pose, _PLATFORM, "").convert("RGB"))
        ax.axis("off")
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


FIGURE = Figure(
    title="Watermaze: the view, and from above\nthe agent (red) and the hidden platform (green)",
    runs=lambda preset: {},
    panels=lambda results: [],
    draw=draw,
)
