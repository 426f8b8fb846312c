"""Pictures of Watermaze: a rollout as it is seen and from above, and the eight landmarks."""

from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from ad_jax.envs import raycast, watermaze
from experiments.pictures import style
from experiments.pictures.rollouts import episode_ends, median_task, shown_episodes

_EPISODES = 4
_STRIDE = 2  # steps between two pictures of an animation
_ZOOM = 2
_DISTANCE = 300  # units between a landmark and the viewer
_MAP = _ZOOM * raycast.FRAME_SHAPE[0]  # pixels along a side, as high as the frame
_HEADER = 22


def draw(
    env: Any, params: Any, results: dict, reference: np.ndarray, summary: dict, folder: Any
) -> list[str]:
    """Writes rollout.gif, landmarks.png and its PDF; returns their names."""
    del summary
    task = median_task(results, reference)
    platform = np.asarray(params.platform)[task]
    picture = jax.jit(env.render_observation)
    rollout(results, task, platform, picture, folder / "rollout.gif")
    return ["rollout.gif", *style.save(landmarks(picture), folder / "landmarks.png")]


def rollout(results: dict, task: int, platform: np.ndarray, picture: Any, path: Any) -> None:
    """The first rollout on a task: what the agent sees, and where it is.

    Args:
      results: of the stage "evaluate".
      task: its index.
      platform: its platform, float [2].
      picture: draws frames from poses.
      path: of the GIF.
    """
    pose, reward = results["observation"][task], results["reward"][task]
    ends = episode_ends(results, task)
    frames, durations = [], []
    for episode in shown_episodes(len(ends), _EPISODES):
        begin, end = (0 if episode == 0 else ends[episode - 1]), ends[episode]
        views = np.asarray(picture(pose[begin:end]))
        for step in [*range(begin, end - 1, _STRIDE), end - 1]:
            found = reward[begin : end if step == end - 1 else step].sum()  # all at its end
            text = f"episode {episode + 1}   step {step - begin + 1}   return {found:.0f}"
            frames.append(beside(views[step - begin], pose[begin : step + 1], platform, text))
            durations.append(900 if step == end - 1 else 70 * _STRIDE)
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True
    )


def landmarks(picture: Any) -> Figure:
    """The view of each landmark from a place in front of its wall."""
    angles = np.arange(0, raycast.TURN, raycast.TURN // 8)
    radians = 2 * np.pi * angles / raycast.TURN
    distance = (raycast.APOTHEM - _DISTANCE) * raycast.POSITION_SCALE
    poses = np.stack([distance * np.cos(radians), distance * np.sin(radians), angles], -1)
    views = np.asarray(picture(np.rint(poses).astype(np.int32)))
    figure, panels = style.panels(2, 4, (8, 3.4))
    for axes, view, name in zip(panels.flat, views, raycast.LANDMARKS, strict=True):
        axes.imshow(view, interpolation="nearest")
        axes.set_title(name, fontsize=9)
        axes.axis("off")
    figure.suptitle("Watermaze: the eight landmarks", fontsize=11)
    text = f"Each as the agent sees it from {_DISTANCE} units in front of its wall."
    style.explain(figure, text, "")
    return figure


def beside(view: np.ndarray, poses: np.ndarray, platform: np.ndarray, text: str) -> Image.Image:
    """A frame, and beside it the room from above with the agent's path in this episode."""
    seen = Image.fromarray(view)
    seen = seen.resize((seen.width * _ZOOM, seen.height * _ZOOM), Image.Resampling.NEAREST)
    image = Image.new("RGB", (seen.width + _MAP, _HEADER + seen.height), "#101418")
    image.paste(seen, (0, _HEADER))
    pen = ImageDraw.Draw(image)
    pen.text((6, 3), text, fill="white", font=ImageFont.load_default(12))

    scale = _MAP / 2 / (raycast.APOTHEM * 1.08)
    middle = np.array([seen.width + _MAP / 2, _HEADER + _MAP / 2])
    place = lambda x_y: tuple((middle + np.array([x_y[0], -x_y[1]]) * scale).tolist())
    corners = (np.arange(raycast.NUM_WALLS) + 0.5) * 2 * np.pi / raycast.NUM_WALLS
    radius = raycast.APOTHEM / np.cos(np.pi / raycast.NUM_WALLS)
    pen.polygon(
        [place((radius * np.cos(a), radius * np.sin(a))) for a in corners],
        fill="#1d3a5f", outline="#5dade2",
    )  # fmt: skip
    for i, (colour, _) in enumerate(raycast.LANDMARKS.values()):
        angle = 2 * np.pi * i / len(raycast.LANDMARKS)
        x, y = place((raycast.APOTHEM * np.cos(angle), raycast.APOTHEM * np.sin(angle)))
        pen.ellipse([x - 4, y - 4, x + 4, y + 4], fill=colour)
    disc = lambda x_y, r: [*(np.array(place(x_y)) - r), *(np.array(place(x_y)) + r)]
    pen.ellipse(disc(platform, watermaze.PLATFORM_RADIUS * scale), outline="#2ecc71", width=2)
    path = poses[:, :2] / raycast.POSITION_SCALE
    if len(path) > 1:
        pen.line([place(p) for p in path], fill="#f7f9f9", width=2)
    yaw = 2 * np.pi * poses[-1, 2] / raycast.TURN
    nose = path[-1] + 90 * np.array([np.cos(yaw), np.sin(yaw)])
    pen.line([place(path[-1]), place(nose)], fill="#e74c3c", width=3)
    pen.ellipse(disc(path[-1], 4), fill="#e74c3c")
    return image.quantize(64, Image.Quantize.MAXCOVERAGE)  # keeps the colours of small things
