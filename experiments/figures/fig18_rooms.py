"""How the context has to grow with the room.

In Dark Room the source is R-max, which goes through the room cell by cell; in Dark Key-to-Door an
expert whose noise fades, since R-max can't tell whether it has the key.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.figures import presets
from experiments.figures.figure import Figure, Panels, find, least
from experiments.figures.panels import OF_SCORES, SCORE, point
from experiments.figures.runs import Results, Run, changed
from experiments.figures.sweeps import same_tokens


class Room(NamedTuple):
    """A room, and the amount of data in it.

    Attributes:
      size: cells along each side.
      steps: steps of an episode.
      episodes: kept episodes of a history; a model is evaluated for as many.
      tasks: number of training tasks.
      heldout: number of held-out tasks.
      streams: histories of each task.
    """

    size: int
    steps: int
    episodes: int
    tasks: int
    heldout: int
    streams: int


_KEPT = 5  # of the episodes of a fading expert, one in so many


def _seeking(preset: str, room: Room, changes: Mapping[str, Any]) -> Run:
    """AD on histories of R-max."""
    own = {
        "source.name": "rmax",
        "source.rmax.num_streams": room.streams,
        "source.rmax.rollout_steps": room.steps,
        "collect.streams": room.streams,
        "collect.updates": room.episodes,
        "collect.updates_per_chunk": room.episodes,
        "collect.tasks_per_tile": 100,
        "train.keep_every": 1,
    }
    return presets.ad("dark_room", preset, own | dict(changes))


def _fading(preset: str, room: Room, changes: Mapping[str, Any]) -> Run:
    """AD on some of the episodes of an expert whose noise fades."""
    episodes = _KEPT * room.episodes
    own = {
        "source.noise.num_streams": room.streams,
        "source.noise.rollout_steps": room.steps,
        "source.noise.epsilon_steps": room.steps * episodes,
        "collect.streams": room.streams,
        "collect.updates": episodes,
        "collect.updates_per_chunk": room.episodes,
        "train.keep_every": _KEPT,
    }
    return presets.noise(presets.KEY_TO_DOOR, preset, own | dict(changes))._replace(num_train=None)


class World(NamedTuple):
    """An environment in several sizes.

    Attributes:
      make: ``make(preset, room, changes)``, AD in a room.
      rooms: those of the preset "smoke", and those of the other presets.
      spans: lengths of the context in episodes, for "smoke" and for the other presets; only those
        shorter than a history are used.
    """

    make: Callable[[str, Room, Mapping[str, Any]], Run]
    rooms: tuple[tuple[Room, ...], tuple[Room, ...]]
    spans: tuple[tuple[int, ...], tuple[int, ...]]


WORLDS = {
    "Dark Room": World(
        _seeking,
        (
            (Room(3, 8, 4, 6, 2, 8), Room(5, 12, 6, 6, 2, 8)),
            # R-max has searched each room after half of its episodes.
            (
                Room(9, 20, 12, 57, 16, 64),
                Room(17, 40, 24, 200, 64, 16),
                Room(25, 60, 36, 430, 64, 8),
            ),
        ),
        ((1, 2), (1, 2, 4, 8, 16)),
    ),
    "Dark Key-to-Door": World(
        _fading,
        (
            (Room(3, 16, 4, 40, 2, 2), Room(5, 24, 4, 40, 2, 2)),
            (
                Room(9, 50, 20, 512, 64, 4),
                Room(17, 100, 20, 512, 64, 4),
                Room(25, 150, 20, 512, 64, 4),
            ),
        ),
        ((1, 2), (1, 2, 4)),
    ),
}
_UPDATES: dict[str, dict[str, Any]] = {"smoke": {}, "cpu": {"train.steps": 1500}, "paper": {}}
ROLLOUTS = {"smoke": 2, "cpu": 8, "paper": 20}


def runs(preset: str):
    """Every room with every context."""
    of_preset = int(preset != "smoke")
    return {
        f"{title}, {room.size}, {span * room.steps}": _run(preset, world, room, span)
        for title, world in WORLDS.items()
        for room in world.rooms[of_preset]
        for span in world.spans[of_preset]
        if span < room.episodes
    }


def _run(preset: str, world: World, room: Room, span: int) -> Run:
    changes = {
        **_UPDATES[preset],
        "env.kwargs": {"size": room.size, "max_steps_in_episode": room.steps},
        "tasks.num_heldout": room.heldout,
        "tasks.num_validation": 8 if preset != "smoke" else 1,
        "tasks.num_train": room.tasks,
        "collect.min_improved": 0.0,
        "evaluation.episodes": room.episodes,
        "evaluation.rollouts": ROLLOUTS[preset],
    }
    run = world.make(preset, room, changes)
    context = span * room.steps
    sizes = {"model.context": context, "model.attention_chunk": room.steps}
    return run._replace(
        config=changed(run.config, sizes | same_tokens(run.config, "model.context", context))
    )


def panels(results: Mapping[str, Results]) -> list[dict[str, Any]]:
    """A panel for each world: the score at the end of as many episodes as the source had."""
    made = []
    for title in WORLDS:
        of_rooms: dict[str, list[dict[str, Any]]] = {}
        for name, found in results.items():
            of_title, size, context = name.split(", ")
            if of_title == title:
                value = point(at_the_end(found.normalized()))
                of_rooms.setdefault(size, []).append({"x": context, "value": value, "paper": None})
        made.append({
            "kind": "points", "title": title, "xscale": "log",
            "xlabel": "length of the context (steps of the environment)",
            "ylabel": SCORE, "levels": OF_SCORES,
            "series": [
                {"name": f"{size}×{size} cells", "points": points}
                for size, points in of_rooms.items()
            ],
        })  # fmt: skip
    return made


def at_the_end(scores: np.ndarray) -> np.ndarray:
    """The mean over the last third of the episodes, [...]; by then the source is at its best."""
    return scores[..., -max(1, scores.shape[-1] // 3) :].mean(-1)


def _two_episodes(found: Panels, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores with a context of two episodes, and with the longest one; each float [seed]."""
    points = find(found, "Dark Room")["series"][room]["points"]
    two = WORLDS["Dark Room"].spans[1].index(2)
    short, longest = (np.array(points[i]["value"]["by_seed"]) for i in (two, -1))
    return short, longest


def _grows(found: Panels) -> np.ndarray:
    (small, most_small), (large, most_large) = (_two_episodes(found, room) for room in (0, -1))
    return least(small - 0.9 * most_small, 0.75 * most_large - large, most_large - 0.5)


FIGURE = Figure(
    title="How the context has to grow with the room (scores in the last third of the episodes)",
    runs=runs,
    panels=panels,
    claims={
        "Dark Room: a context of two episodes is enough in the smallest room and not in the "
        "largest: its score is at least 0.9 times, and at most 0.75 times, that with the longest "
        "context, which is at least 0.5 in the largest": _grows,
    },
)
