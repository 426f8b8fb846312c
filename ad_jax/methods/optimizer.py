"""The optimiser of the distilled model."""

import dataclasses

import jax
import optax
import optax.contrib

from ad_jax.errors import UserError

OPTIMIZERS = ("adamw", "muon")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with warm-up and cosine decay (paper, Table 3, which has no weight decay), or Muon.

    Muon (Jordan et al., 2024) orthogonalises the momentum of the matrices between the first and
    the last layer, scaled so that learning rates mean what they mean for AdamW, which updates all
    other parameters.

    Attributes:
      name: "adamw" or "muon".
      initial_learning_rate: before the first step.
      learning_rate: after the warm-up.
      final_learning_rate: at the last step.
      warmup_steps: updates of linear warm-up.
      b1, b2: Adam's decay rates.
      weight_decay: of all matrices; biases, norms and tables of vectors are left alone.
      max_grad_norm: the gradient is clipped to this global norm.
    """

    name: str = "adamw"
    initial_learning_rate: float = 2e-6
    learning_rate: float = 3e-4
    final_learning_rate: float = 0.0
    warmup_steps: int = 100
    b1: float = 0.9
    b2: float = 0.99
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0

    def __post_init__(self):
        if self.name not in OPTIMIZERS:
            raise UserError(f"optimizer.name={self.name!r}: choose one of {OPTIMIZERS}")


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
    """The optimiser over ``steps`` updates."""
    rate = learning_rate(config, steps)
    if config.name == "adamw":
        optimizer = optax.adamw(
            rate, config.b1, config.b2, weight_decay=config.weight_decay, mask=_matrices
        )
    else:
        optimizer = optax.contrib.muon(
            rate,
            weight_decay=config.weight_decay,
            weight_decay_mask=_matrices,
            adam_b1=config.b1,
            adam_b2=config.b2,
            adam_weight_decay=config.weight_decay,
            adam_learning_rate=rate,
            muon_weight_dimension_numbers=_hidden_matrices,
            consistent_rms=0.2,
        )
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optimizer)


def _matrices(params):
    """True for the kernels of linear maps."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def _hidden_matrices(params):
    """For the kernels of the blocks, which of their axes are inputs and outputs; else None."""

    def axes(path, x):
        *modules, name = (key.key for key in path)
        if name != "kernel" or not any(module.startswith("blocks") for module in modules):
            return None
        inputs = 1 if "qkv" in modules else x.ndim - 1
        return optax.contrib.MuonDimensionNumbers(
            tuple(range(inputs)), tuple(range(inputs, x.ndim))
        )

    return jax.tree_util.tree_map_with_path(axes, params)
