"""Adversarial bandit (paper, figure 3): 10 arms, trials of 100 pulls, UCB distilled.

    python -m experiments.run --config=experiments/configs/adversarial_bandit.py:cpu --workdir=DIR

Trained on bandits whose odd arms usually pay; tested on new ones, on bandits whose even arms
usually pay, and on uniform ones. The report gives (r - r_random) / (r_UCB - r_random).
smoke: seconds, no result.
cpu: 2 minutes on two cores; scores 1.00 on odd, 0.99 on even and 0.95 on uniform bandits.
paper: the paper's model; for a GPU, not run here. The paper does not state its number of histories.
"""

from experiments.configs import dark_room
from experiments.configs.common import PAPER, choose

TRIALS = {
    "source.name": "ucb",
    "collect.updates": 1,
    "collect.updates_per_chunk": 1,
    "collect.tasks_per_tile": 4096,
    # One trial of a hard bandit may well end worse than it began.
    "collect.min_improved": 0.5,
    "model.context": 100,
    "evaluation.episodes": 1,
}
PRESETS = {
    "smoke": {
        **{k: v for k, v in dark_room.PRESETS["smoke"].items() if not k.startswith("source.")},
        **TRIALS,
        "env.kwargs": {"num_arms": 4, "max_steps_in_episode": 16},
        "tasks.num_heldout": 4,
        "tasks.num_validation": 4,
        "tasks.num_train": 40,
        "model.context": 16,
    },
    "cpu": {
        **TRIALS,
        "tasks.num_heldout": 200,
        "tasks.num_validation": 200,
        "tasks.num_train": 20_000,
        "model.num_layers": 3,
        "model.num_heads": 2,
        "model.attention_chunk": 50,
        "optimizer.learning_rate": 3e-3,
        "train.steps": 1200,
        "train.accumulate": 2,
    },
    "paper": {
        **PAPER,
        **TRIALS,
        "tasks.num_heldout": 1000,
        "tasks.num_validation": 200,
        "tasks.num_train": 100_000,
        "evaluation.rollouts": 20,
    },
}


def get_config(preset: str = "cpu"):
    """The config of a preset."""
    return choose(preset, PRESETS, name="AdversarialBandit")
