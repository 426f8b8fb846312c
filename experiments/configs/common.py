"""What the presets share, and how a preset changes the defaults."""

from typing import Any

from ad_jax.config import with_names
from ad_jax.errors import UserError

# The paper's source of the grid worlds (Table 4), its model and optimiser (Table 3); each
# environment adds its own regularisation. Not stated there: steps between two updates of an actor,
# the number of updates of the model, the warm-up, the final learning rate.
PAPER_SOURCE = {
    "source.name": "a2c",
    "source.a2c.num_streams": 100,
    "source.a2c.num_groups": 100,
    "source.a2c.rollout_steps": 20,
    "source.a2c.hidden": (128, 128, 128),
    "source.a2c.discount": 0.99,
    "source.a2c.gae_lambda": 0.95,
    "source.a2c.learning_rate": 1e-4,
    "source.a2c.entropy_cost": 0.01,
    "source.a2c.adam_eps": 1e-6,
}
PAPER = {
    "model.mlp_width": 2048,
    "model.positions": "learned",
    "model.norm": "post",
    "model.dropout": 0.1,
    "model.mask": "token",
    "optimizer.warmup_steps": 1000,
    "train.steps": 50_000,
    "train.batch_size": 128,
    "train.log_every": 100,
    "train.checkpoint_every": 5000,
    "evaluation.episodes": 1000,
    "evaluation.rollouts": 20,
    "evaluation.mode": "exact",
}
# A model that a CPU trains in minutes.
SMALL = {
    "model.num_layers": 3,
    "model.num_heads": 2,
    "model.mask_probability": 0.15,
    "optimizer.name": "muon",
    "optimizer.learning_rate": 5e-3,
    "train.steps": 1500,
    "train.accumulate": 2,
}
# A model for long contexts, on GPUs and TPUs.
LARGE = {
    "model.width": 512,
    "model.num_layers": 8,
    "model.num_heads": 8,
    "model.mlp_width": 2048,
    "model.context": 4096,
    "model.attention_chunk": 512,
    "model.dtype": "bfloat16",
    "model.mask_probability": 0.15,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 3e-4,
    "optimizer.warmup_steps": 1000,
    "train.steps": 20_000,
    "train.batch_size": 32,
    "train.checkpoint_every": 1000,
    "evaluation.rollouts": 4,
}
# A billion parameters, for pods.
XL = {
    **LARGE,
    "model.width": 2048,
    "model.num_layers": 20,
    "model.num_heads": 16,
    "model.mlp_width": 8192,
    "model.context": 8192,
    "model.remat": True,
    "optimizer.learning_rate": 2e-4,
    "train.batch_size": 64,
    "train.accumulate": 1,
}


def choose(preset: str, presets: dict[str, dict[str, Any]], **always: Any):
    """The defaults, changed by a preset.

    Args:
      preset: a key of ``presets``.
      presets: for each preset, its values by dotted key.
      **always: values of env, for every preset.

    Raises:
      UserError: the preset, or something that it names, does not exist.
    """
    if preset not in presets:
        raise UserError(f"there is no preset {preset!r}: choose one of {', '.join(presets)}")
    changes = {**{f"env.{key}": value for key, value in always.items()}, **presets[preset]}
    config = with_names(changes)
    config.preset = preset
    config.update_from_flattened_dict(changes)
    return config
