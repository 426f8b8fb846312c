"""Every setting of an experiment, and how a preset changes them."""

import dataclasses
import inspect
from typing import Any

import ml_collections

from ad_jax.envs.registry import ENVIRONMENTS
from ad_jax.errors import UserError
from ad_jax.methods import METHODS
from ad_jax.methods.optimizer import OptimizerConfig
from ad_jax.models import CORES
from experiments.build import SOURCES

# The paper's source of the grid worlds (Table 4), its model and optimiser (Table 3); each
# environment adds its own regularisation. Not stated there: steps between two updates of an actor,
# the number of updates of the model, the warm-up, the final learning rate.
PAPER_SOURCE = {
    "source.name": "a2c",
    "source.a2c.num_streams": 100,
    "source.a2c.num_groups": 100,
    "source.a2c.rollout_steps": 20,
    "source.a2c.hidden": (128, 128, 128),
    "source.a2c.discount": 0.99,
    "source.a2c.gae_lambda": 0.95,
    "source.a2c.learning_rate": 1e-4,
    "source.a2c.entropy_cost": 0.01,
    "source.a2c.adam_eps": 1e-6,
}
PAPER = {
    "model.mlp_width": 2048,
    "model.positions": "learned",
    "model.norm": "post",
    "model.dropout": 0.1,
    "model.mask": "token",
    "optimizer.warmup_steps": 1000,
    "train.steps": 50_000,
    "train.batch_size": 128,
    "train.log_every": 100,
    "train.checkpoint_every": 5000,
    "evaluation.episodes": 1000,
    "evaluation.rollouts": 20,
    "evaluation.mode": "exact",
}
# A model for long contexts, on GPUs and TPUs.
LARGE = {
    "model.width": 512,
    "model.num_layers": 8,
    "model.num_heads": 8,
    "model.mlp_width": 2048,
    "model.context": 4096,
    "model.attention_chunk": 512,
    "model.dtype": "bfloat16",
    "model.mask_probability": 0.15,
    "optimizer.learning_rate": 3e-4,
    "optimizer.warmup_steps": 1000,
    "train.steps": 20_000,
    "train.batch_size": 32,
    "train.checkpoint_every": 1000,
    "evaluation.rollouts": 4,
}


def defaults() -> ml_collections.ConfigDict:
    """The settings that environments and presets change."""
    config = ml_collections.ConfigDict()
    config.method = "AD"  # one of ad_jax.methods.METHODS
    config.preset = ""
    config.seed = 0  # of all random draws but the split of the tasks
    config.env = {
        "name": "",
        "kwargs": {},
        # "module:function", from the environment to its TaskDistribution; for ids of gymnax
        "tasks": ml_collections.config_dict.placeholder(str),
    }
    config.tasks = {
        "seed": 0,
        "num_heldout": 16,
        "num_train": ml_collections.config_dict.placeholder(int),  # all that are left
    }
    config.source = {
        "name": "ppo",  # which of the following
        **{name: dataclasses.asdict(settings()) for name, (_, settings) in SOURCES.items()},
    }
    config.collect = {
        "tasks": "train",  # or "heldout": how the source fares on them, for figures only
        "updates": 100,  # of the source, each on one rollout
        "updates_per_chunk": 20,  # a chunk is the unit of memory, and of a record
        "tasks_per_tile": 1024,  # a tile is the work of a device, and of resumption: one shard
        "streams": ml_collections.config_dict.placeholder(int),  # stored per task; all of them
        "min_improved": 0.95,  # part of the tasks whose returns must have risen; 0 for an expert
    }
    # The cores share most settings; each takes those it has. The first one's defaults count.
    cores: dict[str, Any] = {}
    for settings in reversed(CORES.values()):
        cores |= dataclasses.asdict(settings())
    config.model = {"core": "transformer", **cores}
    config.optimizer = dataclasses.asdict(OptimizerConfig())
    methods: dict[str, dict[str, Any]] = {}  # of those that share a group, each takes what it has
    for spec in METHODS.values():
        methods.setdefault(spec.group, {}).update(dataclasses.asdict(spec.settings()))
    config.train = {
        **methods.pop("train"),
        "seeds": 1,  # models trained at once in one program, of the seeds seed, seed + 1, …
        "steps": 1000,
        "keep_every": 1,  # keep every k-th episode of a stream,
        "keep_streams": ml_collections.config_dict.placeholder(int),  # of so many streams per task,
        "keep_begin": 0.0,  # in this part of its history
        "keep_end": 1.0,
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
        "train_tasks": 256,  # at most so many training tasks are evaluated
        "mode": "fast",  # or "exact"
        "temperature": 1.0,  # 0 is greedy
        "prompt_episodes": 0,  # of a demonstrator, before the model acts,
        "prompt_quality": 0.5,  # who earns this part of the optimal return
    }
    config.mesh = {"data": -1, "fsdp": 1, "model": 1}  # devices; -1 is all that are left
    return config


def choose(preset: str, presets: dict[str, dict[str, Any]], **always: Any):
    """The defaults, changed by a preset.

    Args:
      preset: a key of ``presets``.
      presets: for each preset, its values by dotted key.
      **always: values of env, for every preset; the arguments of a known environment are there.

    Raises:
      UserError: there is no such preset.
    """
    if preset not in presets:
        raise UserError(f"there is no preset {preset!r}: choose one of {', '.join(presets)}")
    config = defaults()
    config.preset = preset
    config.env.update(always)
    if environment := ENVIRONMENTS.get(config.env.name):
        arguments = inspect.signature(environment).parameters.values()
        config.env.kwargs = {argument.name: argument.default for argument in arguments}
    config.update_from_flattened_dict(presets[preset])
    return config
