"""What can be said of a config before anything is done with it."""

import ml_collections
import numpy as np

from ad_jax.errors import UserError
from experiments import build

SMALLEST = {
    "seed": 0,
    "tasks.seed": 0,
    "tasks.num_heldout": 1,
    "collect.updates": 1,
    "collect.updates_per_chunk": 1,
    "collect.tasks_per_tile": 1,
    "model.width": 1,
    "model.num_layers": 1,
    "model.num_heads": 1,
    "model.mlp_width": 1,
    "model.context": 1,
    "model.hidden": 1,
    "model.lstm_layers": 1,
    "model.attention_block": 1,
    "train.seeds": 1,
    "train.steps": 1,
    "train.batch_size": 1,
    "train.accumulate": 1,
    "train.keep_every": 1,
    "train.prefetch": 1,
    "train.log_every": 1,
    "train.checkpoint_every": 1,
    "rl2.num_trials": 1,
    "rl2.episodes": 1,
    "rl2.num_epochs": 1,
    "rl2.num_minibatches": 1,
    "evaluation.episodes": 1,
    "evaluation.rollouts": 1,
    "evaluation.train_tasks": 1,
    "evaluation.prompt_episodes": 0,
}
LARGEST = 2**31 - 1  # what JAX counts with


def check(config: ml_collections.ConfigDict) -> None:
    """Raises UserError if a number is too small or too large, or a method unknown."""
    build.method_spec(config)
    for key, smallest in SMALLEST.items():
        value = config
        for part in key.split("."):
            value = value[part]
        _check(key, value, smallest)
    name = config.source.name
    for key, value in config.source.get(name, {}).items():
        for number in value if isinstance(value, tuple) else (value,):
            if type(number) is int:  # all of them count something; a bool is an int, too
                _check(f"source.{name}.{key}", number, 1)
    check_method(config, build.world(config))


def _check(key: str, value: int, smallest: int) -> None:
    if not smallest <= value <= LARGEST:
        raise UserError(f"{key}={value}: give a number from {smallest} to {LARGEST}")


def check_method(config: ml_collections.ConfigDict, world: build.World) -> None:
    """Raises UserError if the method does not suit the model, the tasks or the histories."""
    acts_as_expert = config.source.name == "noise" and not config.source.noise.epsilon_start
    experts = acts_as_expert or config.train.keep_begin > 0
    limit = int(np.max(world.tasks.params(world.train).max_steps_in_episode))
    with build.named_by_key(build.method_keys(config)):
        build.method_spec(config).validate(
            build.method_settings(config), build.model(config, world.env), limit, bool(experts)
        )
