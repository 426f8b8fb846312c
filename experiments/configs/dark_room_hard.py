"""Dark Room Hard (paper, figure 4): 17×17, a hidden goal that pays once an episode, 20 steps.

    python -m experiments.run --config=experiments/configs/dark_room_hard.py:cpu --workdir=DIR

244 goals for training, 16 for validation, 29 held out. The source sees whether the goal has paid
(privileged). The farthest goals are hardly ever found by chance within 20 steps, so the source need
not improve on all goals.
smoke: seconds, no result.
cpu: three minutes on two cores. The choice of the source's episodes to train on matters most
(docs/results.md).
paper: the paper's sizes; for a GPU, not run here.
"""

from experiments.configs import dark_room
from experiments.configs.common import PAPER, PAPER_SOURCE, SMALL, choose

PRESETS = {
    "smoke": {
        **dark_room.PRESETS["smoke"],
        "env.kwargs": {"size": 5, "max_steps_in_episode": 8},
        "collect.updates": 80,
    },
    "cpu": {
        **SMALL,
        "tasks.num_heldout": 29,
        "tasks.num_validation": 16,
        "source.ppo.num_streams": 64,
        "source.ppo.learning_rate": 3e-3,
        "source.ppo.discount": 0.95,
        "source.ppo.entropy_cost": 0.05,
        "source.ppo.entropy_updates": 200,
        "source.ppo.privileged": True,
        "collect.updates": 200,
        "collect.streams": 32,
        "collect.min_improved": 0.85,
        "train.keep_every": 5,
        "evaluation.episodes": 200,
        "evaluation.train_tasks": 64,
    },
    # 2000 histories in the paper: 8 streams of each of 244 goals. 500 episodes per stream.
    "paper": {
        **PAPER_SOURCE,
        **PAPER,
        "tasks.num_heldout": 29,
        "tasks.num_validation": 16,
        "source.a2c.privileged": True,
        "collect.updates": 500,
        "collect.streams": 8,
        "collect.min_improved": 0.85,
        "model.mask_probability": 0.5,
        "train.keep_every": 10,
        "train.label_smoothing": 0.2,
    },
}


def get_config(preset: str = "cpu"):
    """The config of a preset."""
    return choose(preset, PRESETS, name="DarkRoomHard")
