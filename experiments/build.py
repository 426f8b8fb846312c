"""From a config to the objects it describes."""

import dataclasses
import functools
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


@functools.cache
def defaults() -> ml_collections.ConfigDict:
    """Every setting of an experiment, with the defaults that the environments' configs change."""
    config = ml_collections.ConfigDict()
    config.method = "AD"
    config.preset = ""
    config.seed = 0  # of all random draws but the split of the tasks
    config.env = {"name": "DarkRoom", "kwargs": {}}
    config.tasks = {
        "seed": 0,
        "num_heldout": 16,
        "num_train": ml_collections.config_dict.placeholder(int),  # all that are left
    }
    config.source = {"name": "ppo", **dataclasses.asdict(PPOConfig())}
    config.collect = {
        "updates": 200,  # of the source; one block per update
        "updates_per_chunk": 20,  # the chunk is the unit of memory and of a record
        "tasks_per_tile": 1024,  # the tile is the unit of resumption: one shard
        "min_improved": 0.95,  # part of the tasks whose returns must have risen
    }
    config.model = dataclasses.asdict(TransformerConfig())
    config.optimizer = dataclasses.asdict(OptimizerConfig())
    config.train = {
        "steps": 1000,
        "batch_size": 64,
        "keep_every": 1,  # keep every k-th episode of a stream
        "label_smoothing": 0.0,
        "windows": "device",  # or "disk"
        "prefetch": 8,  # batches read ahead from disk
        "log_every": 20,
        "checkpoint_every": 500,
    }
    config.evaluation = {
        "episodes": 20,
        "rollouts": 8,  # per task
        "mode": "fast",  # or "exact"
        "temperature": 1.0,  # 0 is greedy
    }
    config.mesh = {"data": -1}  # devices; -1 is all
    return config
