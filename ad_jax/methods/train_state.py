"""What training carries from one update to the next, and an update on a batch."""

from collections.abc import Callable
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
        mean and deviation from it (see ``ImageEncoder``). Without a batch, zeros are used; in a
        model that sees images, the parameters are then useful only for their shapes.
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
        "previous_action": jnp.zeros((1, 1, *model.actions.shape), jnp.int32),
        "previous_reward": jnp.zeros((1, 1)),
        "is_first": jnp.zeros((1, 1), bool),
    }


def training_output(
    model: linen.Module, params: Any, batch: dict[str, jax.Array], key: jax.Array, **options: Any
) -> Any:
    """A model's output for a batch in training, with the input mask and dropout.

    Args:
      model, params: a model from ``ad_jax.models``.
      batch: a dict with at least ``INPUTS``.
      key: for dropout and the input mask.
      **options: of ``model.apply``.
    """
    key_dropout, key_mask = jax.random.split(key)
    inputs, rngs = {k: batch[k] for k in INPUTS}, {"dropout": key_dropout, "mask": key_mask}
    return model.apply(params, **inputs, train=True, rngs=rngs, **options)


def gradient_update(
    loss: Callable[..., tuple[jax.Array, dict[str, jax.Array]]],
    optimizer: optax.GradientTransformation,
    accumulate: int = 1,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """One step of training on a batch, a pure function to be jitted.

    Args:
      loss: ``loss(params, batch, key) -> (loss, metrics)``, a mean over the batch.
      optimizer: from ``make_optimizer``.
      accumulate: number of parts into which a batch is split. They are processed one after the
        other, and their gradients are averaged; activations take that many times less memory.

    Returns:
      ``update(state, batch, key) -> (state, metrics)``; metrics are float32 scalars. Random draws
      depend on ``key``, which is the same in every call, and on ``state.step``.
    """

    def update(state: TrainState, batch: dict[str, jax.Array], key: jax.Array):
        step_key = jax.random.fold_in(key, state.step)
        gradients = jax.grad(loss, has_aux=True)
        if accumulate == 1:
            grads, metrics = gradients(state.params, batch, step_key)
        else:
            parts = jax.tree.map(lambda x: _parts(x, accumulate), batch)
            keys = jax.random.split(step_key, accumulate)
            zeros = jax.tree.map(
                lambda x: jnp.zeros(x.shape, x.dtype),
                jax.eval_shape(gradients, state.params, batch, step_key),
            )
            add = lambda total, part: (
                jax.tree.map(jnp.add, total, gradients(state.params, *part)), None
            )  # fmt: skip
            total, _ = jax.lax.scan(add, zeros, (parts, keys))
            grads, metrics = jax.tree.map(lambda x: x / accumulate, total)
        metrics["grad_norm"] = optax.global_norm(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state), metrics

    return update


def _parts(x_BxX: jax.Array, number: int) -> jax.Array:
    """[number, B / number, ...]; every device keeps the windows it has."""
    return jnp.moveaxis(x_BxX.reshape(-1, number, *x_BxX.shape[1:]), 1, 0)
