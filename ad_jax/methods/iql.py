"""Implicit Q-learning in context: offline reinforcement learning on the windows of histories.

Kostrikov et al. (arXiv:2110.06169), on the tokens of algorithm distillation, as Tarasov et al. do
(arXiv:2502.17666). Besides the policy, the model predicts action values and a state value at every
step. The policy imitates the actions of the histories, with more weight on those with a higher
advantage, and so can become better than the learner it is distilled from.

Values continue past the end of an episode, so that exploration in one episode gets credit for the
rewards of the next ones.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ad_jax.actions import Actions
from ad_jax.errors import UserError
from ad_jax.interfaces import Method, MethodSpec
from ad_jax.losses import variance
from ad_jax.methods.ad import ADConfig, of_windows
from ad_jax.methods.train_state import gradient_update, training_output

MIN_ADVANTAGE_STD = 1e-3


@dataclasses.dataclass(frozen=True)
class IQLConfig(ADConfig):
    """Settings of implicit Q-learning, in addition to those of algorithm distillation.

    Attributes:
      discount: γ.
      expectile: τ, the expectile of the action values that the state value estimates; 0.5 is their
        mean, and near 1 it is close to the best action that was tried.
      advantage_weight: β of the imitation weight exp(β A), where the advantages A of a batch are
        divided by their standard deviation; 0 is plain imitation. In Dark Room, 1 is clearly worse
        than the default.
      max_weight: upper bound of that weight.
      value_cost: weight of the losses of both values, which are squared errors divided by the
        variance of the action values' targets.
    """

    discount: float = 0.99
    expectile: float = 0.8
    advantage_weight: float = 0.3
    max_weight: float = 20.0
    value_cost: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        if not 0.5 <= self.expectile < 1:
            raise UserError(f"expectile={self.expectile}: give 0.5 or more, and less than 1")


def make(model, optimizer, env, env_params, settings: IQLConfig) -> Method:
    """In-context IQL as a Method; see ``MethodSpec.make``."""
    del env, env_params  # it learns from stored histories alone
    loss = lambda params, batch, key: iql_loss(model, params, batch, key, settings)
    update = gradient_update(loss, optimizer, settings.accumulate)
    return of_windows(model, optimizer, settings, update)


ICIQL = MethodSpec(
    make=make,
    settings=IQLConfig,
    group="train",
    reads="windows",
    # The action values, and the state value.
    extra_outputs=lambda env: Actions.of(env).number("method='ICIQL'") + 1,
)


def iql_loss(
    model: Any, params: Any, batch: dict[str, jax.Array], key: jax.Array, settings: IQLConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The policy loss plus the weighted losses of both values, averaged over all steps.

    Args:
      model: with the extra outputs of ``ICIQL``.
      params: its parameters.
      batch: as ``to_batch`` returns it.
      key: for dropout and the input mask.
      settings: see IQLConfig.

    Returns:
      (loss, metrics).
    """
    actions, out = model.actions, training_output(model, params, batch, key)
    number = actions.num_logits
    logits_BxTxA, q_BxTxA, value_BxTx1 = jnp.split(out, [number, 2 * number], -1)
    value_BxT, action_BxT = value_BxTx1[..., 0], batch["action"]
    q_BxT = jnp.take_along_axis(q_BxTxA, action_BxT[..., None], -1)[..., 0]

    # What follows the last step of a window is not in it.
    future = settings.discount * value_BxT[:, 1:]
    target = jax.lax.stop_gradient(batch["previous_reward"][:, 1:] + future)
    unit = 2 * variance(target)
    q_loss = ((q_BxT[:, :-1] - target) ** 2).mean() / unit

    advantage = jax.lax.stop_gradient(q_BxT) - value_BxT
    side = jnp.where(advantage > 0, settings.expectile, 1 - settings.expectile)
    value_loss = (jax.lax.stop_gradient(side) * advantage**2).mean() / unit

    advantage = jax.lax.stop_gradient(advantage)
    scaled = advantage / jnp.maximum(advantage.std(), MIN_ADVANTAGE_STD)
    weight = jnp.minimum(jnp.exp(settings.advantage_weight * scaled), settings.max_weight)
    imitation = actions.cross_entropy(logits_BxTxA, action_BxT, settings.label_smoothing)
    policy_loss = (weight * imitation).mean()

    total = policy_loss + settings.value_cost * (q_loss + value_loss)
    accuracy = actions.equal(actions.best(logits_BxTxA), action_BxT).mean()
    metrics = {"policy_loss": policy_loss, "q_loss": q_loss, "value_loss": value_loss}
    return total, {"loss": total, "accuracy": accuracy, **metrics}
