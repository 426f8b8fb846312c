"""From a config to the objects it describes."""

import contextlib
import dataclasses
import importlib.metadata
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from ad_jax import registries
from ad_jax.actions import Actions
from ad_jax.envs import registry
from ad_jax.envs.tasks import TaskDistribution
from ad_jax.errors import UserError
from ad_jax.interfaces import Method, MethodSpec, Source, SourceSpec
from ad_jax.methods import METHODS
from ad_jax.methods.optimizer import OptimizerConfig, learning_rate, make_optimizer
from ad_jax.models import CORES
from ad_jax.models.base import CoreConfig, SequenceModel
from ad_jax.sources import SOURCES

# Groups of settings that only some methods use.
METHOD_GROUPS = {spec.group for spec in METHODS.values()} - {"train"}

PURPOSES = ("collect", "initialise", "train", "evaluate", "report")


def key(config: ml_collections.ConfigDict, purpose: str, seed: int | None = None) -> jax.Array:
    """The random key for a purpose. Every random draw of a run derives from one of these keys.

    Args:
      config: the config of the run.
      purpose: one of ``PURPOSES``.
      seed: the seed of one model, where a run trains several; ``config.seed`` if None.
    """
    seed = config.seed if seed is None else seed
    keys = jax.random.split(jax.random.key(seed), len(PURPOSES))
    return keys[PURPOSES.index(purpose)]


class World(NamedTuple):
    """An environment, its tasks, and their split; see ``envs.tasks.Split``."""

    env: Any
    tasks: TaskDistribution
    train: np.ndarray
    validation: np.ndarray
    heldout: np.ndarray


def world(config: ml_collections.ConfigDict) -> World:
    """The environment of ``config.env`` and the split of ``config.tasks``."""
    own = config.env.tasks
    distribution = None if own is None else registries.imported("env.tasks", own)
    with named_by_key({name: f"env.kwargs.{name}" for name in config.env.kwargs}):
        env, tasks = registry.make(config.env.name, distribution, **config.env.kwargs)
    return World(env, tasks, *tasks.split(**config.tasks))


def acts(env: Any) -> bool:
    """Whether agents can act in an environment; some are known only from histories."""
    return getattr(env, "acts", True)


def version(env: Any) -> str:
    """The version of an environment: of its dynamics and, if it has pictures, of its renderer."""
    dynamics = getattr(env, "version", importlib.metadata.version("gymnax"))
    pictures = getattr(env, "render_version", None)
    return dynamics if pictures is None else f"{dynamics}, pictures {pictures}"


def check_version(env: Any, provenance: dict[str, Any]) -> None:
    """Checks that stored histories come from this version of the environment.

    Raises:
      UserError: they come from another environment or version. The same actions could lead
        elsewhere, or the same observations give other pictures.
    """
    stored = provenance["environment"]
    if (env.name, version(env)) != (stored["name"], stored["version"]):
        raise UserError(
            f"the histories are from {stored['name']} {stored['version']}, but this program has "
            f"{env.name} {version(env)}: collect them again in another workdir"
        )


@contextlib.contextmanager
def named_by_key(keys: dict[str, str]) -> Iterator[None]:
    """Replaces the argument in errors of the library ("context=3") by its command-line key.

    Args:
      keys: the command-line key of each argument.
    """
    try:
        yield
    except UserError as error:
        names = "|".join(map(re.escape, keys)) or "(?!)"
        pattern = rf"(?<![\w.])({names})(?==| /)"
        raise UserError(re.sub(pattern, lambda m: keys[m[1]], str(error))) from error


def keys_of(group: str, settings: type) -> dict[str, str]:
    """The command-line key of each field of a dataclass of settings."""
    return {field.name: f"{group}.{field.name}" for field in dataclasses.fields(settings)}


def _settings(config: ml_collections.ConfigDict, group: str, settings: type) -> Any:
    """A dataclass of settings, filled from a group of the config; other keys of it are ignored.

    If the group is missing, all settings have their defaults: those of a user's own module, say.
    """
    values = config
    for name in group.split("."):
        values = values.get(name, {})
    names = [field.name for field in dataclasses.fields(settings)]
    with named_by_key(keys_of(group, settings)):
        return settings(**{name: values[name] for name in names if name in values})


def source_spec(config: ml_collections.ConfigDict) -> SourceSpec:
    """The SourceSpec of a config's source, from the registry or a user's own module.

    Raises:
      UserError: there is no such source.
    """
    is_kind = lambda found: isinstance(found, SourceSpec)
    return registries.find("source.name", config.source.name, SOURCES, "a SourceSpec", is_kind)


def core(config: ml_collections.ConfigDict) -> type[CoreConfig]:
    """The config class of the core of a config.

    Raises:
      UserError: there is no such core.
    """
    is_kind = lambda found: isinstance(found, type) and issubclass(found, CoreConfig)
    kind = "a subclass of CoreConfig"
    return registries.find("model.core", config.model.core, CORES, kind, is_kind)


def source(config: ml_collections.ConfigDict, env: Any) -> Source:
    """The source of ``config.source``."""
    make, settings = source_spec(config)
    group = f"source.{registries.short(config.source.name)}"
    with named_by_key(keys_of(group, settings)):
        return make(env, _settings(config, group, settings))


def model(config: ml_collections.ConfigDict, env: Any) -> SequenceModel:
    """The model of ``config.model`` for an environment's spaces, with the outputs of its method.

    Raises:
      UserError: there is no such core, or its settings do not fit together.
    """
    settings = core(config)
    space = env.observation_space(env.default_params)
    with named_by_key(keys_of("model", settings)):
        chosen = _settings(config, "model", settings)
        if chosen.shown_cost and not hasattr(env, "picture_shows"):
            raise UserError(
                f"shown_cost={chosen.shown_cost}: {env.name} does not say what its pictures show: "
                "give 0"
            )
        return SequenceModel(
            chosen,
            space,
            Actions.of(env),
            render=getattr(env, "render_observation", None),
            shown=env.picture_shows if chosen.shown_cost else None,
            extra_outputs=method_spec(config).extra_outputs(env),
        )


def sharding_rules(config: ml_collections.ConfigDict) -> Sequence:
    """The sharding rules of the model's parameters; see ``models.base.Rules``."""
    return core(config).rules


def optimizer(config: ml_collections.ConfigDict) -> OptimizerConfig:
    """The settings of ``config.optimizer``."""
    return _settings(config, "optimizer", OptimizerConfig)


def method_spec(config: ml_collections.ConfigDict) -> MethodSpec:
    """The MethodSpec of a config's method, from the registry or a user's own module.

    Raises:
      UserError: there is no such method.
    """
    is_kind = lambda found: isinstance(found, MethodSpec)
    return registries.find("method", config.method, METHODS, "a MethodSpec", is_kind)


def reads_windows(config: ml_collections.ConfigDict) -> bool:
    """Whether the method learns from stored histories, and so needs a source."""
    return method_spec(config).reads == "windows"


def is_unused(config: ml_collections.ConfigDict, key: str) -> bool:
    """Whether a setting belongs only to sources, methods or cores that a config does not use.

    Args:
      config: the config of a run.
      key: the dotted key of one of its leaves.
    """
    group, name, *_ = *key.split("."), ""
    if group == "source":
        return name not in ("name", registries.short(config.source.name))
    spec = method_spec(config)
    chosen = {spec.group: spec.settings, "model": core(config)}
    known = [("model", settings) for settings in CORES.values()]
    known += [(each.group, each.settings) for each in METHODS.values()]
    has = lambda settings: name in keys_of(group, settings)
    of_some = any(has(settings) for each, settings in known if each == group)
    return of_some and not (group in chosen and has(chosen[group]))


def method_settings(config: ml_collections.ConfigDict) -> Any:
    """The settings of the method of a config."""
    spec = method_spec(config)
    return _settings(config, spec.group, spec.settings)


def method_keys(config: ml_collections.ConfigDict) -> dict[str, str]:
    """The command-line keys of the arguments that a method's errors name."""
    spec = method_spec(config)
    own = keys_of(spec.group, spec.settings)
    return {"keep_begin": "train.keep_begin", **keys_of("model", core(config)), **own}


def method(config: ml_collections.ConfigDict, world: World) -> Method:
    """The method of a config, for the training tasks of a world.

    Raises:
      UserError: the settings of the method, the model or the optimizer are refused.
    """
    settings = method_settings(config)
    steps, per_update = config.train.steps, settings.optimizer_steps
    keys = keys_of("optimizer", OptimizerConfig)
    keys["steps"] = "train.steps" if per_update == 1 else f"train.steps * {per_update}"
    with named_by_key(keys):
        made = make_optimizer(optimizer(config), steps * per_update)
    params = world.tasks.params(world.train)
    with named_by_key(method_keys(config)):
        return method_spec(config).make(model(config, world.env), made, world.env, params, settings)


def learning_rates(config: ml_collections.ConfigDict) -> Callable[[int], Any]:
    """A function from the number of updates made to the learning rate."""
    per_update = method_settings(config).optimizer_steps
    schedule = learning_rate(optimizer(config), config.train.steps * per_update)
    return lambda update: schedule(update * per_update)
