"""XLand-MiniGrid: a room with objects, and a hidden goal; needs the extra xland.

    python -m experiments.run --config=experiments/configs/xland.py:cpu --workdir=DIR

Not an experiment of the paper. The source also sees what it holds (privileged).
smoke: seconds, no result.
cpu: a room of 5×5 cells, and rulesets drawn by this project; twelve minutes on two cores, eight of
them to collect.
large: the package's benchmark trivial-21k, which it downloads, in rooms of 9×9 with walls; for a
GPU, not run here.
"""

from experiments.configs import dark_room
from experiments.configs.common import LARGE, SMALL, choose

PRESETS = {
    "smoke": {
        **dark_room.PRESETS["smoke"],
        "env.kwargs": {"size": 5, "max_steps_in_episode": 8},
        "tasks.num_heldout": 4,
        "tasks.num_validation": 4,
        "tasks.num_train": 8,
        "source.ppo.privileged": True,
        "collect.min_improved": 0.0,
    },
    "cpu": {
        **SMALL,
        "env.kwargs": {"size": 7, "num_objects": 3, "max_steps_in_episode": 40},
        "tasks.num_heldout": 64,
        "tasks.num_validation": 64,
        "tasks.num_train": 512,
        "source.ppo.num_streams": 16,
        "source.ppo.rollout_steps": 40,
        "source.ppo.hidden": (64,),
        "source.ppo.discount": 0.95,
        "source.ppo.learning_rate": 3e-3,
        "source.ppo.entropy_cost": 0.02,
        "source.ppo.privileged": True,
        "collect.updates": 150,
        "collect.updates_per_chunk": 15,
        "collect.tasks_per_tile": 64,
        "collect.streams": 4,
        "collect.min_improved": 0.7,
        "model.context": 200,
        "train.keep_every": 10,
        "train.batch_size": 32,
        "evaluation.episodes": 50,
        "evaluation.rollouts": 4,
        "evaluation.train_tasks": 32,
    },
}
PRESETS["large"] = {
    **PRESETS["cpu"],
    **LARGE,
    "env.kwargs": {"benchmark": "trivial-21k"},
    "tasks.num_train": 10_000,
    "tasks.num_heldout": 256,
    "source.ppo.rollout_steps": 64,
    "collect.updates": 1000,
    "train.keep_every": 10,
}


def get_config(preset: str = "cpu"):
    """The config of a preset."""
    return choose(preset, PRESETS, name="XLand")
