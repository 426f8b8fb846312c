"""Who meets in the arena, and where.

Every method of ``ad_jax.methods`` and every core of ``ad_jax.models`` enters by itself, with the
settings that AD has in a world: its histories, number of updates, batches and shape of the model.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ad_jax.methods import METHODS
from ad_jax.models import CORES
from experiments.figures import presets
from experiments.figures.runs import Run

SEEDS = {"smoke": 1, "cpu": 5, "paper": 5}
WORLDS = {
    "smoke": ("dark_room", presets.RANDOM_MDP),
    "cpu": (
        presets.BANDIT, "dark_room", "dark_room_hard", presets.KEY_TO_DOOR, presets.RANDOM_MDP,
    ),
    "paper": (presets.BANDIT, "dark_room", "dark_room_hard", presets.KEY_TO_DOOR),
}  # fmt: skip
OF_ALL_CORES = ("dark_room", presets.KEY_TO_DOOR, presets.RANDOM_MDP)  # others: one is enough

# Cores with about as many parameters as the transformer of the presets.
SHAPES: dict[str, Mapping[str, Any]] = {
    "lstm": {"model.hidden": 160, "model.mlp_width": 64},
    "gru": {"model.hidden": 192, "model.mlp_width": 64},
}


def _of_method(name: str, environment: str, preset: str) -> Run:
    return presets.ad(environment, preset, {"method": name})


def _of_core(core: str, environment: str, preset: str) -> Run:
    return presets.ad(environment, preset, {"model.core": core, **SHAPES.get(core, {})})


def _clone(environment: str, preset: str) -> Run:
    """Behaviour cloning: ED without a context, so that it is one policy for all tasks."""
    run = presets.ed(environment, preset)
    transitions = run.config.train.batch_size * run.config.model.context
    config = run.config.copy_and_resolve_references()
    config.model.context = config.model.attention_chunk = 1
    config.train.batch_size = transitions
    return run._replace(config=config)


# Those that are more than AD with another method.
OWN: dict[str, Callable[[str, str], Run]] = {"ED": presets.ed, "RL2": presets.rl2}
OF_METHODS: dict[str, Callable[[str, str], Run]] = {
    **{name: OWN.get(name, partial(_of_method, name)) for name in METHODS},
    "AD, noise": presets.noise,
    "BC": _clone,
}
OF_CORES = {f"AD, {core}": partial(_of_core, core) for core in CORES if core != "transformer"}
ENTRIES = {**OF_METHODS, **OF_CORES, "source": presets.source}
PICTURES = {"methods": list(OF_METHODS), "cores": ["AD", *OF_CORES]}


def runs(preset: str) -> dict[str, dict[str, Run]]:
    """What the arena is made of: runs by the names of the world and of the entry."""
    return {
        world: {
            name: make(world, preset)
            for name, make in ENTRIES.items()
            if name not in OF_CORES or world in OF_ALL_CORES
        }
        for world in WORLDS[preset]
    }
