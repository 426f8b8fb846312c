"""Figure 2: what the agent sees of the Watermaze, and the room from above."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure as Picture

from ad_jax.envs import raycast
from experiments.figures.figure import Figure
from experiments.pictures import style
from experiments.pictures.watermaze import beside

_PLATFORM = np.array([400.0, 250.0])
_POSES = ((0, 0, 0.0), (150, -200, 0.8), (300, 100, 0.45))  # x, y in units, yaw in radians


def draw(made: Mapping[str, Any]) -> Picture:
    """Frames of three poses, each beside the map."""
    picture = jax.jit(raycast.render)
    figure, axes = style.panels(1, len(_POSES), (12, 2.6))
    for ax, (x, y, yaw) in zip(axes[0], _POSES, strict=True):
        angle = yaw / (2 * np.pi) * raycast.TURN
        pose = np.rint([x * raycast.POSITION_SCALE, y * raycast.POSITION_SCALE, angle])
        pose = pose.astype(np.int32)[None]
        text = f"x {x}, y {y} units, heading {np.degrees(yaw):.0f}°"
        ax.imshow(beside(np.asarray(picture(pose))[0], pose, _PLATFORM, text).convert("RGB"))
        ax.axis("off")
    figure.suptitle(made["title"], fontsize=11)
    return figure


FIGURE = Figure(
    title="Watermaze: the view, and from above the agent (dot with a nose) "
    "and the hidden platform (ring)",
    runs=lambda preset: {},
    panels=lambda results: [],
    draw=draw,
)
