"""A point in a plane with continuous actions and a hidden goal on a half circle, 20 steps.

    python -m experiments.run --config=experiments/configs/point_robot.py:cpu --workdir=DIR

Not an experiment of the paper. Each component of an action is one of five values. Training goals
are on one half of the circle; goals on the other half are tested as well.
smoke: seconds, no result.
cpu: 256 training tasks; three minutes on two cores.
"""

from experiments.configs import dark_room
from experiments.configs.common import SMALL, choose

PRESETS = {
    "smoke": {
        **dark_room.PRESETS["smoke"],
        "env.kwargs": {"near": 0.9, "max_steps_in_episode": 8},
        "tasks.num_heldout": 4,
        "tasks.num_validation": 4,
        "tasks.num_train": 8,
        "collect.min_improved": 0.5,
    },
    "cpu": {
        **SMALL,
        "tasks.num_heldout": 32,
        "tasks.num_validation": 32,
        "tasks.num_train": 256,
        "source.ppo.num_streams": 32,
        "source.ppo.discount": 0.95,
        "source.ppo.entropy_cost": 0.02,
        "source.ppo.num_minibatches": 2,
        "collect.updates": 100,
        "collect.streams": 8,
        "model.context": 100,
        "model.attention_chunk": 50,
        "train.keep_every": 5,
        "evaluation.episodes": 50,
        "evaluation.train_tasks": 32,
    },
}


def get_config(preset: str = "cpu"):
    """The config of a preset."""
    return choose(preset, PRESETS, name="PointRobot")
