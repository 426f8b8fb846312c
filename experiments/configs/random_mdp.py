"""Random Markov decision processes: 16 states, 4 actions, one state with a reward, 20 steps.

    python -m experiments.run --config=experiments/configs/random_mdp.py:cpu --workdir=DIR

Not an experiment of the paper. One task tells nothing about another, and there are two billion:
``tasks.num_train`` says how many to train on.
smoke: seconds, no result.
cpu: 1024 training tasks; three minutes on two cores.
paper: as large as the paper's experiments; for a GPU, not run here.
"""

from experiments.configs import dark_room
from experiments.configs.common import SMALL, choose

PRESETS = {
    "smoke": {
        **dark_room.PRESETS["smoke"],
        "env.kwargs": {"num_states": 4, "num_actions": 3, "max_steps_in_episode": 8},
        "tasks.num_heldout": 8,
        "tasks.num_validation": 8,
        "tasks.num_train": 40,
        "collect.min_improved": 0.5,
        "evaluation.train_tasks": 8,
    },
    "cpu": {
        **SMALL,
        "tasks.num_heldout": 64,
        "tasks.num_validation": 64,
        "tasks.num_train": 1024,
        "source.ppo.num_streams": 16,
        "source.ppo.discount": 0.9,
        "source.ppo.entropy_cost": 0.05,
        "source.ppo.entropy_updates": 100,
        "collect.updates": 100,
        "collect.tasks_per_tile": 256,
        "collect.streams": 4,
        "collect.min_improved": 0.85,
        "model.context": 200,
        "train.keep_every": 5,
        "train.batch_size": 32,
        "evaluation.episodes": 50,
        "evaluation.train_tasks": 32,
    },
}
PRESETS["paper"] = {
    **PRESETS["cpu"],
    "tasks.num_train": 8192,
    "model.width": 256,
    "model.num_heads": 4,
    "model.mlp_width": 1024,
    "train.steps": 20_000,
    "train.batch_size": 128,
    "evaluation.rollouts": 20,
}


def get_config(preset: str = "cpu"):
    """The config of a preset."""
    return choose(preset, PRESETS, name="RandomMDP")
