"""The optimiser of the distilled model."""

import dataclasses
import math
from typing import Any

import jax
import optax
import optax.contrib

from ad_jax.errors import UserError

OPTIMIZERS = ("adamw", "muon")
FROZEN = {"mean", "deviation"}  # measured, not learned
OUTSIDE_CORE = {"embed", "head"}  # modules of a SequenceModel


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with warm-up and cosine decay (paper, Table 3, which has no weight decay), or Muon.

    Muon (Jordan et al., 2024) orthogonalises the momentum of the core's matrices. Its updates are
    scaled so that a learning rate has about the same effect as with AdamW. AdamW updates all other
    parameters; see ``partition``.

    Attributes:
      name: "adamw" or "muon".
      initial_learning_rate: before the first step.
      learning_rate: after the warm-up.
      final_learning_rate: at the last step.
      warmup_steps: updates of linear warm-up.
      b1, b2: Adam's decay rates.
      weight_decay: of all kernels, but not of biases, norms and embedding tables.
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
            raise UserError(f"name={self.name!r}: choose one of {OPTIMIZERS}")


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """The schedule over ``steps`` updates.

    Raises:
      UserError: the warm-up is not shorter than that.
    """
    if config.warmup_steps >= steps:
        raise UserError(f"warmup_steps={config.warmup_steps} must be fewer than steps={steps}")
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
    adamw = optax.adamw(
        rate, config.b1, config.b2, weight_decay=config.weight_decay, mask=_is_kernel
    )
    if config.name == "adamw":
        optimizer = adamw  # frozen parameters have no gradient and no decay, so they stay
    else:
        muon = optax.contrib.muon(
            rate,
            weight_decay=config.weight_decay,
            muon_weight_dimension_numbers=_matrix_axes,
            consistent_rms=0.2,
        )
        optimizers = {"muon": muon, "adamw": adamw, "frozen": optax.set_to_zero()}
        optimizer = optax.partition(optimizers, lambda params: partition(config, params))
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optimizer)


def partition(config: OptimizerConfig, params: Any) -> Any:
    """Which optimiser each parameter gets.

    Args:
      config: see OptimizerConfig.
      params: of a SequenceModel: arrays, or their shapes.

    Returns:
      A tree like ``params`` of labels. "frozen": means and deviations, which are measured and not
      trained. "muon", if the config says so: the kernels of the core, where the projections to
      queries, keys and values count as three matrices. "adamw": all others.
    """

    def label(path, _) -> str:
        modules = [key.key for key in path]
        if modules[-1] in FROZEN:
            return "frozen"
        in_core = modules[-1] == "kernel" and not OUTSIDE_CORE & set(modules)
        return "muon" if config.name == "muon" and in_core else "adamw"

    return jax.tree_util.tree_map_with_path(label, params)


def describe_partition(config: OptimizerConfig, params: Any) -> str:
    """One line: how many parameters each optimiser has."""
    labels = jax.tree.leaves(partition(config, params))
    sizes: dict[str, int] = {}
    for name, leaf in zip(labels, jax.tree.leaves(params), strict=True):
        sizes[name] = sizes.get(name, 0) + math.prod(leaf.shape)
    return ", ".join(f"{name} {size:,}" for name, size in sorted(sizes.items()))


def _is_kernel(params):
    """True for the kernels of linear maps."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def _matrix_axes(params):
    """Which axes of each kernel are inputs and outputs; any other axis indexes matrices."""

    def axes(path, x):
        if "qkv" in [key.key for key in path]:  # [input, 3, heads, head width]
            return optax.contrib.MuonDimensionNumbers((0,), (2, 3))
        return optax.contrib.MuonDimensionNumbers(tuple(range(x.ndim - 1)), (x.ndim - 1,))

    return jax.tree_util.tree_map_with_path(axes, params)
