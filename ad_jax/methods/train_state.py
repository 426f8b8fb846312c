"""What training carries from one update to the next."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen, struct

from ad_jax.envs.spaces import observation_dtype

INPUTS = ("observation", "previous_action", "previous_reward", "is_first")


@struct.dataclass
class TrainState:
    """Everything that training resumes from. ``step`` counts the updates made."""

    step: jax.Array
    params: Any
    opt_state: Any


def init_state(
    key: jax.Array,
    model: linen.Module,
    optimizer: optax.GradientTransformation,
    batch: dict[str, jax.Array] | None = None,
) -> TrainState:
    """A fresh state.

    Args:
      key: for the parameters.
      model: a model from ``ad_jax.models``.
      optimizer: from ``make_optimizer``.
      batch: a dict with at least ``INPUTS``, arrays [batch, time, ...]. An image encoder takes its
        mean and deviation from it (see ``ImageEncoder``). Without a batch, zeros stand in, and a
        model that sees images is only good for its shapes.
    """
    params = init_params(key, model, batch)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def init_params(
    key: jax.Array, model: linen.Module, batch: dict[str, jax.Array] | None = None
) -> Any:
    """Fresh parameters; the arguments are those of ``init_state``."""
    batch = zero_inputs(model) if batch is None else batch
    return model.init(key, **{name: batch[name] for name in INPUTS})


def zero_inputs(model: linen.Module) -> dict[str, jax.Array]:
    """Inputs of a model for one step, all zero."""
    return {
        "observation": jnp.zeros((1, 1, *model.space.shape), observation_dtype(model.space)),
        "previous_action": jnp.zeros((1, 1), jnp.int32),
        "previous_reward": jnp.zeros((1, 1)),
        "is_first": jnp.zeros((1, 1), bool),
    }
