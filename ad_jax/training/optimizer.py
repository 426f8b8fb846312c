"""The optimiser of the distilled model."""

import dataclasses

import jax
import optax

from ad_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with warm-up and cosine decay (paper, Table 3, which has no weight decay).

    Attributes:
      initial_learning_rate: before the first step.
      learning_rate: after the warm-up.
      final_learning_rate: at the last step.
      warmup_steps: updates of linear warm-up.
      b1, b2: Adam's decay rates.
      weight_decay: of all matrices; biases, norms and tables of vectors are left alone.
      max_grad_norm: the gradient is clipped to this global norm.
    """

    initial_learning_rate: float = 2e-6
    learning_rate: float = 3e-4
    final_learning_rate: float = 0.0
    warmup_steps: int = 100
    b1: float = 0.9
    b2: float = 0.99
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """The schedule over ``steps`` updates."""
    if config.warmup_steps >= steps:
        raise UserError(
            f"optimizer.warmup_steps={config.warmup_steps} must be fewer than train.steps={steps}"
        )
    return optax.warmup_cosine_decay_schedule(
        config.initial_learning_rate,
        config.learning_rate,
        config.warmup_steps,
        steps,
        config.final_learning_rate,
    )


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """AdamW over ``steps`` updates."""
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adamw(
            learning_rate(config, steps),
            config.b1,
            config.b2,
            weight_decay=config.weight_decay,
            mask=_matrices,
        ),
    )


def _matrices(params):
    """True for the kernels of linear maps."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
