"""From a config to the objects it describes."""

import dataclasses
import importlib
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from ad_jax.envs import registry
from ad_jax.envs.tasks import TaskDistribution
from ad_jax.errors import UserError
from ad_jax.interfaces import Source
from ad_jax.methods.optimizer import OptimizerConfig
from ad_jax.models.lstm import LSTM, LSTM_RULES, LSTMConfig
from ad_jax.models.transformer import RULES, Transformer, TransformerConfig
from ad_jax.sources.a2c import A2CConfig, a2c
from ad_jax.sources.bandits import ThompsonConfig, UCBConfig, thompson, ucb
from ad_jax.sources.dqn import DQNConfig, dqn
from ad_jax.sources.noise import NoiseConfig, noise
from ad_jax.sources.ppo import PPOConfig, ppo

SOURCES = {
    "ppo": (ppo, PPOConfig),
    "a2c": (a2c, A2CConfig),
    "dqn": (dqn, DQNConfig),
    "ucb": (ucb, UCBConfig),
    "thompson": (thompson, ThompsonConfig),
    "noise": (noise, NoiseConfig),
}

CORES = {
    "transformer": (Transformer, TransformerConfig, RULES),
    "lstm": (LSTM, LSTMConfig, LSTM_RULES),
}

PURPOSES = ("collect", "initialise", "train", "evaluate", "report")


def key(config: ml_collections.ConfigDict, purpose: str, seed: int | None = None) -> jax.Array:
    """The random key of a purpose: every draw of a run descends from one of these.

    Args:
      config: of the run.
      purpose: one of ``PURPOSES``.
      seed: of a model, where the run trains several; None for the run's own.
    """
    seed = config.seed if seed is None else seed
    keys = jax.random.split(jax.random.key(seed), len(PURPOSES))
    return keys[PURPOSES.index(purpose)]


class World(NamedTuple):
    """An environment, its tasks, and which of them are for training."""

    env: Any
    tasks: TaskDistribution
    train: np.ndarray
    heldout: np.ndarray


def world(config: ml_collections.ConfigDict) -> World:
    """The environment of ``config.env`` and the split of ``config.tasks``."""
    distribution = None if config.env.tasks is None else _function(config.env.tasks)
    env, tasks = registry.make(config.env.name, distribution, **config.env.kwargs)
    train, heldout = tasks.split(
        config.tasks.seed, config.tasks.num_heldout, config.tasks.num_train
    )
    return World(env, tasks, train, heldout)


def _function(name: str) -> Callable[..., Any]:
    """The function called "module:function"."""
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"env.tasks={name!r}: give 'module:function' ({error})") from error


def version(env: Any) -> str:
    """Of what makes an environment's histories: its dynamics and, if it draws, its pictures."""
    dynamics = getattr(env, "version", importlib.metadata.version("gymnax"))
    pictures = getattr(env, "render_version", None)
    return dynamics if pictures is None else f"{dynamics}, pictures {pictures}"


def check_version(env: Any, provenance: dict[str, Any]) -> None:
    """Refuses histories of another version of the environment.

    Raises:
      UserError: the same poses or actions would show or lead to something else today.
    """
    stored = provenance["environment"]
    if (env.name, version(env)) != (stored["name"], stored["version"]):
        raise UserError(
            f"the histories are of {stored['name']} {stored['version']}, this program has "
            f"{env.name} {version(env)}: collect them again in another workdir"
        )


def source(config: ml_collections.ConfigDict, env: Any) -> Source:
    """The source of ``config.source``."""
    if config.source.name not in SOURCES:
        raise UserError(f"source.name={config.source.name!r}: choose one of {sorted(SOURCES)}")
    make, settings = SOURCES[config.source.name]
    return make(env, settings(**config.source[config.source.name]))


def model(config: ml_collections.ConfigDict, env: Any) -> Transformer | LSTM:
    """The model of ``config.model`` for an environment's spaces; with a critic, where RL² needs it.

    Raises:
      UserError: there is no such core.
    """
    make, settings, _ = _core(config)
    chosen = {field.name: config.model[field.name] for field in dataclasses.fields(settings)}
    space = env.observation_space(env.default_params)
    render = getattr(env, "render_observation", None)
    critic = config.method == "RL2"
    return make(settings(**chosen), space, int(env.num_actions), render, critic)


def sharding_rules(config: ml_collections.ConfigDict) -> Sequence:
    """Where the parameters of the model live."""
    return _core(config)[2]


def _core(config: ml_collections.ConfigDict):
    if config.model.core not in CORES:
        raise UserError(f"model.core={config.model.core!r}: choose one of {sorted(CORES)}")
    return CORES[config.model.core]


def optimizer(config: ml_collections.ConfigDict) -> OptimizerConfig:
    """The settings of ``config.optimizer``."""
    return OptimizerConfig(**config.optimizer)
