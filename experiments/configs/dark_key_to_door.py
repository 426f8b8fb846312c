"""Dark Key-to-Door (paper, figure 4): 9×9, find a hidden key, then a hidden door, 50 steps.

    python -m experiments.run --config=experiments/configs/dark_key_to_door.py:cpu --workdir=DIR

Only the source sees whether it holds the key (privileged): it has no memory, so it could not know.
smoke: seconds, no result.
cpu: five minutes on two cores; what it reaches is in docs/results.md.
large: all episodes of 4096 tasks, a context of 82 episodes, a model of width 512 and 8 layers; for
GPUs and TPU pods, not run here.
xl: the same tasks, a context of 164 episodes, a model of width 2048 and 20 layers, a billion
parameters; for pods, with mesh.fsdp, mesh.model and mesh.sequence (docs/scaling.md); compiled, but
never run.
paper: the paper's sizes; for a GPU, not run here.
"""

from experiments.configs import dark_room
from experiments.configs.common import LARGE, PAPER, PAPER_SOURCE, SMALL, XL, choose

PRESETS = {
    "smoke": {
        **dark_room.PRESETS["smoke"],
        "env.kwargs": {"size": 3, "max_steps_in_episode": 16},
        "source.ppo.rollout_steps": 16,
        "source.ppo.privileged": True,
        "collect.updates": 40,
        "collect.min_improved": 0.8,
        "tasks.num_heldout": 8,
        "tasks.num_validation": 8,
        "tasks.num_train": 40,
        "evaluation.train_tasks": 8,
    },
    "cpu": {
        **SMALL,
        "tasks.num_heldout": 64,
        "tasks.num_validation": 64,
        "tasks.num_train": 512,
        "source.ppo.num_streams": 32,
        "source.ppo.rollout_steps": 50,
        "source.ppo.discount": 0.99,
        "source.ppo.entropy_cost": 0.2,
        "source.ppo.entropy_updates": 300,
        "source.ppo.privileged": True,
        "collect.updates": 300,
        "collect.updates_per_chunk": 20,
        "collect.tasks_per_tile": 128,
        "collect.streams": 4,
        "model.context": 200,
        "train.keep_every": 10,
        "train.batch_size": 32,
        "evaluation.episodes": 200,
        "evaluation.train_tasks": 32,
    },
    # 2000 histories in the paper: one stream of each of 2000 tasks. 2000 episodes per stream.
    "paper": {
        **PAPER_SOURCE,
        **PAPER,
        "tasks.num_heldout": 256,
        "tasks.num_validation": 256,
        "tasks.num_train": 2000,
        "source.a2c.rollout_steps": 50,
        "source.a2c.privileged": True,
        "collect.updates": 2000,
        "collect.tasks_per_tile": 250,
        "collect.streams": 1,
        "model.context": 200,
        "model.attention_dropout": 0.5,
        "model.mask_probability": 0.3,
        "train.keep_every": 10,
    },
}
PRESETS["large"] = {
    **PRESETS["cpu"],
    **LARGE,
    "tasks.num_heldout": 256,
    "tasks.num_validation": 256,
    "tasks.num_train": 4096,
    "train.keep_every": 1,
}
PRESETS["xl"] = {**PRESETS["large"], **XL, "collect.updates": 400}  # 20 thousand steps per stream


def get_config(preset: str = "cpu"):
    """The config of a preset."""
    return choose(preset, PRESETS, name="DarkKeyToDoor")
