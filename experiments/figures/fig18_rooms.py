"""How the context has to grow with the room.

In Dark Room the source is R-max, which goes through the room cell by cell; in Dark Key-to-Door an
expert whose noise fades, since R-max can't tell whether it has the key.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ad_jax.evaluation.statistics import last_tenth
from experiments.figures import presets
from experiments.figures.figure import Figure, Panels, find
from experiments.figures.panels import OF_SCORES, SCORE, point
from experiments.figures.runs import Results, Run, changed
from experiments.figures.sweeps import same_tokens


class Room(NamedTuple):
    """A room, and the amount of data in it.

    Attributes:
      size: cells along each side.
      steps: steps of an episode.
      episodes: episodes of a history.
      tasks: number of training tasks.
    """

    size: int
    steps: int
    episodes: int
    tasks: int


def _seeking(preset: str, room: Room, changes: Mapping[str, Any]) -> Run:
    """AD on histories of R-max."""
    own = {
        "source.name": "rmax",
        "source.rmax.num_streams": 8,
        "collect.streams": 8,
        "source.rmax.rollout_steps": room.steps,
        "collect.updates_per_chunk": room.episodes,
        "train.keep_every": 1,
    }
    return presets.ad("dark_room", preset, own | dict(changes))


def _fading(preset: str, room: Room, changes: Mapping[str, Any]) -> Run:
    """AD on every fifth episode of histories of an expert whose noise fades."""
    own = {
        "source.noise.rollout_steps": room.steps,
        "source.noise.epsilon_steps": room.steps * room.episodes,
        "collect.updates_per_chunk": min(20, room.episodes),
        "train.keep_every": 5,
    }
    return presets.noise(presets.KEY_TO_DOOR, preset, own | dict(changes))._replace(num_train=None)


class World(NamedTuple):
    """An environment in several sizes.

    Attributes:
      make: ``make(preset, room, changes)``, AD in a room.
      rooms: those of the preset "smoke", and those of the other presets.
      spans: lengths of the context in episodes, for "smoke" and for the other presets.
    """

    make: Callable[[str, Room, Mapping[str, Any]], Run]
    rooms: tuple[tuple[Room, ...], tuple[Room, ...]]
    spans: tuple[tuple[int, ...], tuple[int, ...]]


WORLDS = {
    "Dark Room": World(
        _seeking,
        (
            (Room(3, 8, 4, 6), Room(5, 12, 6, 6)),
            (Room(9, 20, 12, 57), Room(17, 40, 24, 200), Room(25, 60, 36, 200)),
        ),
        ((1, 2), (1, 2, 4, 8)),
    ),
    "Dark Key-to-Door": World(
        _fading,
        (
            (Room(3, 16, 10, 40), Room(5, 24, 10, 40)),
            (Room(9, 50, 100, 512), Room(17, 100, 100, 512), Room(25, 150, 100, 512)),
        ),
        ((1, 2), (1, 2, 4)),
    ),
}
HELDOUT = {"smoke": (2, 1, 4), "cpu": (16, 8, 50), "paper": (16, 8, 50)}


def runs(preset: str):
    """Every room with every context."""
    of_preset = int(preset != "smoke")
    return {
        f"{title}, {room.size}, {span}": _run(preset, world, room, span)
        for title, world in WORLDS.items()
        for room in world.rooms[of_preset]
        for span in world.spans[of_preset]
    }


def _run(preset: str, world: World, room: Room, span: int) -> Run:
    heldout, validation, episodes = HELDOUT[preset]
    changes = {
        **presets.BRIEF[preset],
        "env.kwargs": {"size": room.size, "max_steps_in_episode": room.steps},
        "tasks.num_heldout": heldout,
        "tasks.num_validation": validation,
        "tasks.num_train": room.tasks,
        "collect.updates": room.episodes,
        "collect.min_improved": 0.0,
        "evaluation.episodes": episodes,
    }
    run = world.make(preset, room, changes)
    context = span * room.steps
    sizes = {"model.context": context, "model.attention_chunk": room.steps}
    return run._replace(
        config=changed(run.config, sizes | same_tokens(run.config, "model.context", context))
    )


def panels(results: Mapping[str, Results]) -> list[dict[str, Any]]:
    """A panel for each world: the score of the last tenth of the episodes, a line for each room."""
    made = []
    for title in WORLDS:
        of_rooms: dict[str, list[dict[str, Any]]] = {}
        for name, found in results.items():
            of_title, size, span = name.split(", ")
            if of_title == title:
                value = point(last_tenth(found.normalized()).mean(-1))
                of_rooms.setdefault(size, []).append({"x": span, "value": value, "paper": None})
        made.append({
            "kind": "points", "title": title, "xscale": "log",
            "xlabel": "context (episodes)", "ylabel": SCORE, "levels": OF_SCORES,
            "series": [
                {"name": f"{size}×{size} cells", "points": points}
                for size, points in of_rooms.items()
            ],
        })  # fmt: skip
    return made


def _missed(found: Panels, title: str, room: int) -> np.ndarray:
    """How far a context of two episodes falls short of the longest one; float [seed]."""
    points = find(found, title)["series"][room]["points"]
    short, longest = (np.array(points[i]["value"]["by_seed"]) for i in (1, -1))
    return longest - short


FIGURE = Figure(
    title="How the context has to grow with the size of the room",
    runs=runs,
    panels=panels,
    claims={
        f"{title}: a context of two episodes falls further short of the longest one in the largest "
        "room than in the smallest": lambda found, title=title: (
            _missed(found, title, -1) - _missed(found, title, 0)
        )
        for title in WORLDS
    },
)
