"""Algorithm distillation: next-action prediction over windows of learning histories.

Paper, equation 3: the negative log-likelihood of the source's action at *every* step of the
window, given all that came before it.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax

from ad_jax.errors import UserError
from ad_jax.evaluation.agents import model_agent
from ad_jax.interfaces import Method, MethodSpec
from ad_jax.methods.train_state import TrainState, gradient_update, init_state, training_output
from ad_jax.models.base import SequenceModel


@dataclasses.dataclass(frozen=True)
class ADConfig:
    """Settings of algorithm distillation.

    Attributes:
      batch_size: windows per update.
      accumulate: number of parts into which a batch is split, whose gradients are averaged. It
        takes less memory, and on a CPU it is up to 1.7 times as fast if a part is about 2500
        transitions.
      label_smoothing: the part of the target that is spread over all actions (paper, Table 3).
    """

    batch_size: int = 64
    accumulate: int = 1
    label_smoothing: float = 0.0

    def __post_init__(self):
        if self.batch_size % self.accumulate:
            raise UserError(
                f"batch_size={self.batch_size} is not a multiple of accumulate={self.accumulate}"
            )

    @property
    def optimizer_steps(self) -> int:
        return 1


def make(model, optimizer, env, env_params, settings: ADConfig) -> Method:
    """Algorithm distillation as a Method; see ``MethodSpec.make``."""
    del env, env_params  # it learns from stored histories alone
    update = make_update(model, optimizer, settings.label_smoothing, settings.accumulate)
    return of_windows(model, optimizer, settings, update)


def of_windows(
    model: SequenceModel,
    optimizer: optax.GradientTransformation,
    settings: ADConfig,
    update: Callable[..., tuple[TrainState, dict[str, jax.Array]]],
) -> Method:
    """A Method that reads windows of histories, with this update and ``model_agent``."""
    return Method(
        init=lambda key, batch: init_state(key, model, optimizer, batch),
        update=update,
        agent=partial(model_agent, model),
        shared=settings.batch_size // settings.accumulate,
        shared_name="batch_size / accumulate",
        transitions=settings.batch_size * model.config.context,
    )


AD = MethodSpec(make=make, settings=ADConfig, group="train", reads="windows")


def distillation_loss(
    model: SequenceModel, params: Any, batch: dict[str, jax.Array], key: jax.Array,
    label_smoothing: float = 0.0,
) -> tuple[jax.Array, dict[str, jax.Array]]:  # fmt: skip
    """Cross-entropy of the source's actions, averaged over all steps of all windows.

    Args:
      model: the model.
      params: its parameters.
      batch: as ``to_batch`` returns it, [batch, context, ...].
      key: for dropout and the input mask.
      label_smoothing: the part of the target that is spread over all actions (paper, Table 3).

    Returns:
      (loss, metrics). The metrics are the cross-entropy as "loss" and the "accuracy". If the config
      has a ``shown_cost``, there is also the "shown_error", and the loss includes it.
    """
    logits_BxTxA, sown = training_output(model, params, batch, key, mutable="losses")
    actions, action = model.actions, batch["action"]
    loss = actions.cross_entropy(logits_BxTxA, action, label_smoothing).mean()
    accuracy = actions.equal(actions.best(logits_BxTxA), action).mean()
    metrics = {"loss": loss, "accuracy": accuracy}
    if errors := jax.tree.leaves(sown):
        (metrics["shown_error"],) = errors
        loss += model.config.shown_cost * metrics["shown_error"]
    return loss, metrics


def make_update(
    model: SequenceModel,
    optimizer: optax.GradientTransformation,
    label_smoothing: float = 0.0,
    accumulate: int = 1,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """An update that minimises ``distillation_loss``; see ``gradient_update``."""

    def loss(params, batch, key):
        return distillation_loss(model, params, batch, key, label_smoothing)

    return gradient_update(loss, optimizer, accumulate)
