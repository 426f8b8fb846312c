"""Dark Room (paper, figure 4): 9×9, a hidden goal that pays on every step, 20 steps.

    python -m experiments.run --config=experiments/configs/dark_room.py:quickstart --workdir=DIR

57 goals for training, 8 for validation, 16 held out. The scores of rl2 and paper are older than the
validation set, and have 65 training goals.

smoke: seconds, no result.
quickstart: a minute on two cores; R-max as the source.
cpu: PPO as the source; two minutes on two cores.
rl2: the baseline RL², an LSTM of 64 units, 12.8 M steps, 3 minutes on two cores. In episode 20, the
last of a trial, it has 0.97 of the optimal return on training goals and 0.87 on held-out ones.
paper: the paper's sizes. On one H100, with 8 rollouts (not 20) and 100 updates of the source (not
60), it took 5 minutes, and rose from 0.02 of the optimal return to 0.75 in the last tenth of 1000
episodes, on training goals to 0.94.
"""

from typing import Any

from experiments.configs.common import PAPER, PAPER_SOURCE, SMALL, choose

PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "env.kwargs": {"size": 3, "max_steps_in_episode": 8},
        "tasks.num_heldout": 2,
        "tasks.num_validation": 1,
        "source.ppo.rollout_steps": 8,
        "collect.updates": 40,
        "model.width": 16,
        "model.num_layers": 1,
        "model.num_heads": 2,
        "model.mlp_width": 32,
        "model.context": 16,
        "optimizer.warmup_steps": 5,
        "optimizer.learning_rate": 3e-3,
        "train.steps": 40,
        "train.batch_size": 16,
        "train.log_every": 10,
        "train.checkpoint_every": 20,
        "evaluation.episodes": 4,
        "evaluation.rollouts": 2,
    },
    # R-max finishes learning within 12 episodes; the context holds half of that.
    "quickstart": {
        "source.name": "rmax",
        "source.rmax.num_streams": 64,
        "collect.updates": 12,
        "collect.updates_per_chunk": 12,
        "model.num_layers": 2,
        "model.num_heads": 2,
        "model.context": 120,
        "model.mask_probability": 0.3,
        "optimizer.learning_rate": 3e-3,
        "optimizer.weight_decay": 0.5,
        "train.steps": 1250,
        "train.checkpoint_every": 625,
        "train.batch_size": 48,
        "train.accumulate": 2,
        "evaluation.rollouts": 16,
    },
    # With 4 layers and 4 heads, or a lower mask, more rollouts stop exploring before they have
    # found the goal, on training goals as well.
    "cpu": {
        **SMALL,
        "source.ppo.num_streams": 64,
        "collect.updates": 100,
        "model.mask_probability": 0.3,
        "train.keep_every": 5,
        "evaluation.episodes": 50,
    },
    "rl2": {
        "method": "RL2",
        "model.core": "lstm",
        "model.hidden": 64,
        "model.mlp_width": 64,
        "rl2.num_trials": 64,
        "rl2.episodes": 20,
        "rl2.discount": 0.9,
        "rl2.entropy_cost": 0.06,  # with 0.02: the same in training, but half on held-out goals
        "optimizer.learning_rate": 1e-3,
        "optimizer.final_learning_rate": 1e-4,
        "optimizer.b2": 0.999,
        "optimizer.warmup_steps": 20,
        "train.steps": 500,
        "train.checkpoint_every": 100,
    },
    # 2000 histories in the paper: 35 streams of each of 57 goals. 60 episodes per stream: the
    # source has learnt by then, and its policies collapse one by one when it goes on.
    "paper": {
        **PAPER_SOURCE,
        **PAPER,
        "collect.updates": 60,
        "collect.streams": 35,
        "model.attention_dropout": 0.5,
        "model.mask_probability": 0.3,
    },
}


def get_config(preset: str = "quickstart"):
    """The config of a preset."""
    return choose(preset, PRESETS, name="DarkRoom")
