"""The examples together: Q-learning in a corridor, distilled into a minGRU by a custom method.

    python -m experiments.run --config=examples/config.py:cpu --workdir=runs/corridor

Every part is named as module:name, and its settings are ordinary keys of the config:
``--config.source.q_learning.epsilon=0.5``, ``--config.model.state=64``, ``--config.late.skip=0``,
``--config.env.kwargs.length=21``. If the package is installed, the command is ``ad-jax run``, in
the folder that contains ``examples``.

smoke: seconds, no result.
cpu: a minute on two cores; training goals go from 0.2 to 0.7 of the optimum within 20 episodes.
Held-out goals stay near chance: the model sees cells as unrelated numbers, and 18 tasks are too
few to generalise from.
"""

from experiments.configs.common import choose

NAMES = {
    "source.name": "examples.q_learning:q_learning",
    "model.core": "examples.min_gru:MinGRU",
    "method": "examples.late:late",
}
PRESETS = {
    "smoke": {
        **NAMES,
        "env.kwargs.length": 7,
        "env.kwargs.max_steps_in_episode": 8,
        "tasks.num_heldout": 2,
        "tasks.num_validation": 1,
        "source.q_learning.rollout_steps": 8,
        "source.q_learning.epsilon_steps": 160,
        "collect.updates": 40,
        "model.width": 16,
        "model.state": 16,
        "model.context": 16,
        "optimizer.warmup_steps": 5,
        "train.steps": 20,
        "train.log_every": 10,
        "train.checkpoint_every": 20,
        "evaluation.episodes": 4,
        "evaluation.rollouts": 2,
    },
    "cpu": {
        **NAMES,
        "env.kwargs.length": 25,
        "tasks.num_heldout": 5,
        "tasks.num_validation": 2,
        "source.q_learning.num_streams": 64,
        "model.context": 100,
        "model.mask_probability": 0.3,
        "optimizer.learning_rate": 3e-3,
        "train.keep_every": 3,
        "train.steps": 1000,
    },
}


def get_config(preset: str = "cpu"):
    """The config of a preset."""
    return choose(preset, PRESETS, name="examples.corridor:Corridor")
