"""All settings of an experiment with their defaults, and reading configs that runs stored."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import ml_collections

from ad_jax import build
from ad_jax.envs import registry
from ad_jax.errors import UserError
from ad_jax.methods import METHODS
from ad_jax.methods.optimizer import OptimizerConfig
from ad_jax.models import CORES
from ad_jax.registries import short
from ad_jax.sources import SOURCES

# Old names of config keys, with their names today.
RENAMED = {"model.attention_block": "model.attention_chunk"}
# Values for keys that older configs lack: where today's default would change what they did, or
# where ``defaults`` has no such key, as with arguments of environments.
OLD_VALUES: dict[str, Any] = {"tasks.num_validation": 0, "env.kwargs.usual": 0.95}


def defaults() -> ml_collections.ConfigDict:
    """The default config, which environments and presets override."""
    config = ml_collections.ConfigDict()
    config.method = "AD"  # one of ad_jax.methods.METHODS
    config.preset = ""
    config.tracker = ""  # or "wandb" or "trackio", to log the curves there as well
    config.seed = 0  # of all random draws except the split of the tasks
    config.env = {
        "name": "",
        "kwargs": {},
        # "module:function", from the environment to its TaskDistribution; for ids of gymnax
        "tasks": ml_collections.config_dict.placeholder(str),
    }
    config.tasks = {
        "seed": 0,
        "num_heldout": 16,  # results are reported on these
        "num_validation": 8,  # settings are chosen on these
        "num_train": ml_collections.config_dict.placeholder(int),  # all that are left
    }
    config.source = {
        "name": "ppo",  # which of the following
        **{name: dataclasses.asdict(spec.settings()) for name, spec in SOURCES.items()},
    }
    config.collect = {
        "tasks": "train",  # or another group, to plot the source's returns on it
        "updates": 100,  # of the source, each on one rollout
        "updates_per_chunk": 20,  # a chunk is held in memory, and stored as one record
        "tasks_per_tile": 1024,  # a tile runs on one device, and is one shard; runs resume by tile
        "streams": ml_collections.config_dict.placeholder(int),  # stored per task; None for all
        "min_improved": 0.95,  # fraction of tasks whose returns must rise; 0 for an expert
    }
    # The cores share most settings; each takes those it has. The first one's defaults count.
    cores: dict[str, Any] = {}
    for settings in reversed(CORES.values()):
        cores |= dataclasses.asdict(settings())
    config.model = {"core": "transformer", **cores}
    config.optimizer = dataclasses.asdict(OptimizerConfig())
    methods: dict[str, dict[str, Any]] = {}  # methods that share a group use different keys of it
    for spec in METHODS.values():
        methods.setdefault(spec.group, {}).update(dataclasses.asdict(spec.settings()))
    config.train = {
        **methods.pop("train"),
        "seeds": 1,  # models trained at once in one program, with seeds seed, seed + 1, …
        "steps": 1000,
        "keep_every": 1,  # keep every k-th episode of a stream
        "keep_streams": ml_collections.config_dict.placeholder(int),  # per task; None for all
        "keep_begin": 0.0,  # keep the history from this fraction of its length
        "keep_end": 1.0,  # to this one
        "windows": "device",  # or "disk"
        "prefetch": 8,  # batches read ahead from disk
        "log_every": 20,
        "checkpoint_every": 300,
        # Steps between two short evaluations for the curves: a multiple of log_every; 0 for none.
        "evaluate_every": 0,
    }
    for group, settings in methods.items():
        config[group] = settings
    config.evaluation = {
        "episodes": 20,
        "rollouts": 8,  # per task
        "tasks": "heldout",  # or "validation", while settings are being chosen
        "train_tasks": 256,  # at most so many training tasks are evaluated, too
        "mode": "fast",  # or "exact"
        "temperature": 1.0,  # 0 is greedy
        "prompt_episodes": 0,  # episodes by a demonstrator before the model acts
        "prompt_quality": 0.5,  # the demonstrator's return, as a fraction of the optimal one
    }
    # Devices along each axis; -1 is all that are left.
    config.mesh = {"data": -1, "fsdp": 1, "model": 1, "sequence": 1}
    return config


NAMES = ("env.name", "source.name", "model.core", "method")


def with_names(names: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """The default config for the environment, source, core and method of these names.

    If one of them comes from a user's own module, its settings are included. Those of the source
    "mypackage.learners:q_learning" are in the group source.q_learning, those of a core in model,
    and those of a method in the group that its MethodSpec names.

    Args:
      names: leaves of a config by dotted key, of which only ``NAMES`` are read. A missing name has
        its default.

    Raises:
      UserError: there is nothing with one of these names, or a setting has no default.
    """
    config = defaults()
    config.update_from_flattened_dict({key: names[key] for key in NAMES if key in names})
    if config.env.name:
        config.env.kwargs = registry.arguments(config.env.name)
    spec = build.method_spec(config)
    groups = {"model": build.core(config), spec.group: spec.settings}
    if build.reads_windows(config):  # otherwise no source is asked for
        groups[f"source.{short(config.source.name)}"] = build.source_spec(config).settings
    for group, settings in groups.items():
        try:
            values = dataclasses.asdict(settings())
        except TypeError as error:
            raise UserError(f"a setting of {settings.__name__} has no default: {error}") from error
        within = config
        for name in group.split("."):
            within[name] = within.get(name, ml_collections.ConfigDict())
            within = within[name]
        within.update({k: v for k, v in values.items() if k not in within})
    return config


def base(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The default config for the environment, source, core and method that a config names."""
    return with_names(flat(config.to_dict()))


def stored(config: dict[str, Any]) -> ml_collections.ConfigDict:
    """A config that a run stored, perhaps with an older version, under today's keys.

    Args:
      config: the content of its config.json.

    Raises:
      UserError: it is not the config of a run.
    """
    try:
        found = flat(config)
        if missing := [key for key in NAMES if key not in found]:
            raise UserError(f"this is not the config of a run: it has no {missing[0]}")
        given = with_names(found)
        given.env.kwargs.update(config["env"]["kwargs"])
        leaves = of_today(found, flat(given.to_dict()))
        as_tuple = lambda value: tuple(value) if isinstance(value, list) else value
        given.update_from_flattened_dict({key: as_tuple(value) for key, value in leaves.items()})
    except UserError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"this is not the config of a run: {error}") from error
    return given


def of_today(stored: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The leaves of a stored config under today's names, with missing ones filled in.

    A key that is new since then gets its value from ``OLD_VALUES``, which keeps the old behaviour,
    or else today's default. A key that no longer exists is dropped, unless it is in env.kwargs.

    Args:
      stored: the leaves of the stored config by dotted key.
      given: the leaves of a config of today for the same environment, source, core and method.
    """
    today = flat(json.loads(json.dumps(with_names(given).to_dict())))
    renamed = {new if (new := RENAMED.get(key)) in given else key: value
               for key, value in stored.items()}  # fmt: skip
    gone = {k for k in renamed if k not in given and not k.startswith("env.kwargs.")}
    old = {k: v for k, v in {**today, **OLD_VALUES}.items() if k in given}
    return {**old, **{k: v for k, v in renamed.items() if k not in gone}}


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a config by dotted key."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        inner = isinstance(value, dict) and value
        leaves.update(flat(value, f"{prefix}{key}.") if inner else {prefix + key: value})
    return leaves
