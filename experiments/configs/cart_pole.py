"""Cart-pole of gymnax with an unknown motor: an example of tasks for any gymnax environment.

    python -m experiments.run --config=experiments/configs/cart_pole.py:cpu --workdir=DIR

The motor's force differs between tasks, and in about half of them its direction is reversed. Only
the movement of the cart shows that. Not an experiment of the paper.
smoke: seconds, no result.
cpu: three minutes on two cores; learns held-out motors within ten episodes (docs/results.md).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ad_jax.envs.tasks import TaskDistribution
from experiments.configs import dark_room
from experiments.configs.common import choose

STEPS = 50


def tasks(env: Any) -> TaskDistribution:
    """Forces from 5 to 15 N, in either direction; the number of tasks is not limited."""

    def draw(task_id: jax.Array) -> Any:
        key_sign, key_force = jax.random.split(jax.random.fold_in(jax.random.key(0), task_id))
        force = jax.random.uniform(key_force, minval=5.0, maxval=15.0)
        backwards = jax.random.bernoulli(key_sign)
        return env.default_params.replace(
            force_mag=jnp.where(backwards, -force, force), max_steps_in_episode=jnp.int32(STEPS)
        )

    def params(ids: np.ndarray) -> Any:
        return jax.vmap(draw)(jnp.asarray(ids))

    return TaskDistribution(params=params, num_tasks=None)


WORLD = {"env.tasks": "experiments.configs.cart_pole:tasks"}
PRESETS = {
    "smoke": {
        **dark_room.PRESETS["smoke"],
        **WORLD,
        "env.kwargs": {},
        "tasks.num_train": 8,
        "source.ppo.rollout_steps": 50,
        "collect.min_improved": 0.5,
    },
    "cpu": {
        **WORLD,
        "tasks.num_heldout": 32,
        "tasks.num_validation": 32,
        "tasks.num_train": 128,
        "source.ppo.num_streams": 16,
        "source.ppo.rollout_steps": 50,
        "source.ppo.num_minibatches": 4,
        "source.ppo.discount": 0.95,
        "source.ppo.learning_rate": 1e-2,
        "collect.updates": 100,
        "collect.min_improved": 0.9,
        "model.context": 100,
        "model.attention_chunk": 50,
        "model.num_layers": 3,
        "model.num_heads": 2,
        "model.mask_probability": 0.15,
        "optimizer.learning_rate": 3e-3,
        "train.keep_every": 5,
        "train.steps": 1000,
        "train.accumulate": 2,
        "evaluation.train_tasks": 32,
    },
}


def get_config(preset: str = "cpu"):
    """The config of a preset."""
    return choose(preset, PRESETS, name="CartPole-v1")
