"""The entries of the arena, and the environments in which they compete.

Every method of ``ad_jax.methods`` and every core of ``ad_jax.models`` is entered automatically.
Unless this file says otherwise, an entry has the same histories, number of updates, batches and
model shape as AD in that environment.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from ad_jax import build
from ad_jax.methods import METHODS
from ad_jax.models import CORES
from experiments.figures import presets
from experiments.figures.runs import Run, changed

SEEDS = {"smoke": 1, "cpu": 5, "paper": 5}
_ALL = (
    *presets.BANDITS, "dark_room", presets.KEY_TO_DOOR, presets.RANDOM_MDP, "point_robot", "xland"
)  # fmt: skip
WORLDS = {
    "smoke": _ALL,
    "cpu": _ALL,
    "paper": (presets.BANDIT, "dark_room", "dark_room_hard", presets.KEY_TO_DOOR),
}

# Trials of each held-out bandit by algorithms that learn it from scratch: single ones are noisy.
TRIALS = {"smoke": 2, "cpu": 64, "paper": 64}
_NO_BANDITS = sorted({w for worlds in WORLDS.values() for w in worlds} - set(presets.BANDITS))

# Cores with about as many parameters as the transformer of the presets.
SHAPES: dict[str, Mapping[str, Any]] = {
    "lstm": {"model.hidden": 160, "model.mlp_width": 64},
    "gru": {"model.hidden": 192, "model.mlp_width": 64},
}


def _of_method(name: str, environment: str, preset: str) -> Run:
    return presets.ad(environment, preset, {"method": name})


def _of_core(core: str, environment: str, preset: str) -> Run:
    return presets.ad(environment, preset, {"model.core": core, **SHAPES.get(core, {})})


def _of_random_histories(environment: str, preset: str) -> Run:
    """DPT on all steps of a policy that is random throughout, as in its paper's Dark Room."""
    data = {"source.noise.epsilon_end": 1.0, "train.keep_every": 1}
    return presets.noise(environment, preset, {"method": "DPT", **data})


def _clone(environment: str, preset: str) -> Run:
    """Behaviour cloning: ED that sees a single step, with the action and reward before it."""
    run = presets.ed(environment, preset)
    transitions = run.config.train.batch_size * run.config.model.context
    alone = {"model.context": 1, "model.attention_chunk": 1, "train.batch_size": transitions}
    return run._replace(config=changed(run.config, alone))


def _rl2(environment: str, preset: str) -> Run:
    """RL² with as large a model as the others."""
    run = presets.rl2(environment, preset)
    return run._replace(config=changed(run.config, SHAPES["lstm"]))


def _source(environment: str, preset: str) -> Run:
    return presets.source(environment, preset, {"source.ucb.num_streams": TRIALS[preset]})


def _thompson(informed: bool, environment: str, preset: str) -> Run:
    own = {"num_streams": TRIALS[preset], "informed": informed}
    changes = {"source.name": "thompson", "source.thompson": own}
    return presets.source(environment, preset, changes)


# Methods that change more of AD's config than the method.
OWN: dict[str, Callable[[str, str], Run]] = {"ED": presets.ed, "RL2": _rl2}
OF_METHODS: dict[str, Callable[[str, str], Run]] = {
    **{name: OWN.get(name, partial(_of_method, name)) for name in METHODS},
    "AD, noise": presets.noise,
    "DPT, random": _of_random_histories,
    "BC": _clone,
}
OF_CORES = {f"AD, {core}": partial(_of_core, core) for core in CORES if core != "transformer"}
FROM_SCRATCH = {
    "source": _source,
    "Thompson": partial(_thompson, False),
    "Thompson, informed": partial(_thompson, True),
}
ENTRIES = {**OF_METHODS, **OF_CORES, **FROM_SCRATCH}
PICTURES = {"methods": list(OF_METHODS), "cores": ["AD", *OF_CORES]}

# Where an entry does not compete, and why.
_ONE_IS_ENOUGH = "here all methods have the transformer"
_NOT_KNOWN = "no optimal policy is known"
LEFT_OUT: dict[str, dict[str, str]] = {
    **{
        name: dict.fromkeys(
            (*presets.BANDITS, "dark_room_hard", "point_robot", "xland"), _ONE_IS_ENOUGH
        )
        for name in OF_CORES
    },
    **{name: {"xland": _NOT_KNOWN} for name in ("DPT", "DPT, random", "AD, noise")},
    "ICIQL": {"point_robot": "it needs a single discrete action, and here it has two components"},
    "DICP": {
        **dict.fromkeys(presets.BANDITS, "there is nothing to plan: a pull changes no state"),
        "point_robot": "it predicts observations of whole numbers only",
        "xland": "the outputs that predict an observation would be larger than the model",
    },
    "Thompson": {
        **dict.fromkeys(_NO_BANDITS, "it is an algorithm for bandits"),
        "linear_bandit": "it needs rewards of 0 and 1",
    },
    "Thompson, informed": dict.fromkeys(_NO_BANDITS, "it is an algorithm for bandits"),
}


def runs(preset: str, worlds: Iterable[str] | None = None) -> dict[str, dict[str, Run]]:
    """The runs of the arena, by the names of the environment and of the entry.

    Args:
      preset: of the runs.
      worlds: names of environments; None for all of the preset's.
    """
    return {
        world: {
            name: _within_budget(make(world, preset), preset)
            for name, make in ENTRIES.items()
            if world not in LEFT_OUT.get(name, {})
        }
        for world in (WORLDS[preset] if worlds is None else worlds)
    }


def _within_budget(run: Run, preset: str) -> Run:
    """Gives all entries that learn from histories the same number of updates."""
    if not build.reads_windows(run.config):
        return run
    return run._replace(config=changed(run.config, presets.BRIEF[preset]))
