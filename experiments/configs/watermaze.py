"""Watermaze (paper, figure 4): find a hidden platform by landmarks, from 72×96 pixels, 50 steps.

    python -m experiments.run --config=experiments/configs/watermaze.py:cpu --workdir=DIR

Histories store poses; the model draws the frames itself and sees nothing else. The sources of
`smoke` and `cpu` see the pose instead of the frames; that of `paper` is a DQN on frames (Table 5).
smoke: seconds, no result.
cpu: the source is a search. An episode ends one step after the platform is found, so that the model
sees the place together with its reward. It is also trained to predict the pose from a frame
(model.shown_cost), which is not part of the paper's objective. 12 minutes on two cores.
paper: the paper's sizes; for a GPU, not run here.
"""

from experiments.configs import dark_room
from experiments.configs.common import PAPER, SMALL, choose

PRESETS = {
    "smoke": {
        **dark_room.PRESETS["smoke"],
        "env.kwargs": {"max_steps_in_episode": 12},
        "tasks.num_train": 4,
        "tasks.num_validation": 0,
        "source.ppo.rollout_steps": 12,
        "source.ppo.privileged": True,
        "source.dqn.rollout_steps": 12,
        "source.dqn.num_streams": 2,
        "source.dqn.batch_size": 2,
        "source.dqn.updates_per_rollout": 1,
        "source.dqn.encoder": "pooled",
        "collect.min_improved": 0.0,
    },
    "cpu": {
        **SMALL,
        "env.kwargs.goal_mode": "terminate_next",
        "tasks.num_heldout": 32,
        "tasks.num_validation": 32,
        "tasks.num_train": 512,
        # The search finishes learning within about 15 episodes; this is some 30 of them.
        "source.name": "search",
        "collect.updates": 20,
        "collect.tasks_per_tile": 64,
        "collect.min_improved": 0.8,
        "model.context": 300,
        "model.attention_chunk": 60,
        "model.image_encoder": "pooled",
        "model.shown_cost": 1.0,
        "train.batch_size": 16,
        "train.steps": 4000,
        "train.checkpoint_every": 500,
        "evaluation.episodes": 160,
        "evaluation.train_tasks": 16,
    },
    # 4000 histories in the paper: one stream of each of 4000 tasks is nearest to "continuous".
    "paper": {
        **PAPER,
        "tasks.num_heldout": 64,
        "tasks.num_validation": 64,
        "tasks.num_train": 4000,
        "source.name": "dqn",
        "source.dqn.num_streams": 16,
        "source.dqn.rollout_steps": 40,
        "source.dqn.sequence_steps": 40,
        "source.dqn.batch_size": 8,
        "source.dqn.replay_steps": 100_000,
        "source.dqn.q_lambda": 0.75,
        "source.dqn.discount": 0.9,
        "source.dqn.epsilon_start": 0.01,
        "source.dqn.epsilon_end": 0.01,
        "source.dqn.target_period": 50,
        "source.dqn.learning_rate": 1e-4,
        "source.dqn.max_grad_norm": 10.0,
        "source.dqn.hidden": (256,),
        "source.dqn.encoder": "resnet",
        "collect.updates": 160,
        "collect.updates_per_chunk": 20,
        "collect.tasks_per_tile": 16,
        "collect.streams": 1,
        "collect.min_improved": 0.8,
        "model.context": 150,
        "model.attention_dropout": 0.5,
        "model.mask_probability": 0.3,
        "model.image_encoder": "conv",
        "train.keep_every": 5,
        "evaluation.episodes": 160,
    },
}


def get_config(preset: str = "cpu"):
    """The config of a preset."""
    return choose(preset, PRESETS, name="Watermaze")
