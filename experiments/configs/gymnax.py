"""Any environment of gymnax with discrete actions, by its id alone; not in the paper.

    python -m experiments.run --config=experiments/configs/gymnax.py:cpu --workdir=DIR \
        --config.env.name=CartPole-v1

In each task the actions are permuted, and the signs of some components of a float vector are
flipped (``ad_jax.envs.variants``).
smoke: seconds, no result.
cpu: CartPole-v1, five minutes on two cores; a starting point for other ids.
FourRooms-misc, Acrobot-v1: the same for these, ten and fifteen minutes (docs/results.md).
"""

from experiments.configs import dark_room
from experiments.configs.common import choose

_CPU = {
    "env.name": "CartPole-v1",
    "env.kwargs": {"max_steps_in_episode": 50},
    "tasks.num_heldout": 8,
    "tasks.num_validation": 8,
    "tasks.num_train": 24,
    "source.ppo.num_streams": 32,
    "source.ppo.rollout_steps": 50,
    "source.ppo.num_minibatches": 4,
    "source.ppo.discount": 0.95,
    "source.ppo.learning_rate": 1e-2,
    "collect.updates": 100,
    "collect.min_improved": 0.9,
    "model.context": 150,
    "model.attention_chunk": 50,
    "model.num_layers": 3,
    "model.num_heads": 2,
    "model.mask_probability": 0.15,
    "optimizer.learning_rate": 3e-3,
    "train.keep_every": 5,
    "train.steps": 1500,
    "train.accumulate": 4,
}
# Where scales matter, the source and the model get standardised numbers.
_NORMALIZED = {**_CPU, "source.ppo.normalize": True, "model.normalize": True}
PRESETS = {
    "smoke": {
        **dark_room.PRESETS["smoke"],
        "env.name": "CartPole-v1",
        "env.kwargs": {"max_steps_in_episode": 30},
        "source.ppo.rollout_steps": 30,
        "tasks.num_heldout": 1,
        "tasks.num_validation": 1,
        "tasks.num_train": 1,
        "collect.min_improved": 0.0,
        "train.steps": 4,
        "train.log_every": 2,
        "train.checkpoint_every": 4,
        "optimizer.warmup_steps": 1,
        "evaluation.episodes": 2,
    },
    "cpu": _CPU,
    "FourRooms-misc": {
        **_NORMALIZED,
        "env.name": "FourRooms-misc",
        "tasks.num_heldout": 32,
        "tasks.num_validation": 32,
        "tasks.num_train": 256,
        "collect.updates": 200,
        "train.keep_every": 10,
        "evaluation.episodes": 60,
    },
    "Acrobot-v1": {
        **_NORMALIZED,
        "env.name": "Acrobot-v1",
        "env.kwargs": {"max_steps_in_episode": 200},
        "tasks.num_heldout": 32,
        "tasks.num_validation": 32,
        "tasks.num_train": 128,
        "source.ppo.rollout_steps": 100,
        "collect.updates": 120,
        "model.context": 300,
        "model.attention_chunk": 100,
        "train.keep_every": 4,
        "evaluation.episodes": 30,
    },
}


def get_config(preset: str = "cpu"):
    """The config of a preset."""
    return choose(preset, PRESETS)
