"""From a config to the objects it describes."""

from typing import Any, NamedTuple

import ml_collections
import numpy as np

from ad_jax.envs import registry
from ad_jax.envs.tasks import TaskDistribution
from ad_jax.errors import UserError
from ad_jax.interfaces import Source
from ad_jax.models.transformer import Transformer, TransformerConfig
from ad_jax.sources.ppo import PPOConfig, ppo
from ad_jax.training.optimizer import OptimizerConfig

SOURCES = {"ppo": (ppo, PPOConfig)}


class World(NamedTuple):
    """An environment, its tasks, and which of them are for training."""

    env: Any
    tasks: TaskDistribution
    train: np.ndarray
    heldout: np.ndarray


def world(config: ml_collections.ConfigDict) -> World:
    """The environment of ``config.env`` and the split of ``config.tasks``."""
    env, tasks = registry.make(config.env.name, **config.env.kwargs)
    train, heldout = tasks.split(
        config.tasks.seed, config.tasks.num_heldout, config.tasks.num_train
    )
    return World(env, tasks, train, heldout)


def source(config: ml_collections.ConfigDict, env: Any) -> Source:
    """The source of ``config.source``."""
    if config.source.name not in SOURCES:
        raise UserError(f"source.name={config.source.name!r}: choose one of {sorted(SOURCES)}")
    make, settings = SOURCES[config.source.name]
    fields = {k: v for k, v in config.source.items() if k != "name"}
    return make(env, settings(**fields))


def model(config: ml_collections.ConfigDict, env: Any) -> Transformer:
    """The transformer of ``config.model`` for an environment's spaces."""
    space = env.observation_space(env.default_params)
    return Transformer(TransformerConfig(**config.model), space, int(env.num_actions))


def optimizer(config: ml_collections.ConfigDict) -> OptimizerConfig:
    """The settings of ``config.optimizer``."""
    return OptimizerConfig(**config.optimizer)
