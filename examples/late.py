"""A custom method: distillation, with a loss only on the later part of each window.

There, the model has some context to infer the task from.
"""

import dataclasses

import jax
import optax

from ad_jax.interfaces import Method, MethodSpec
from ad_jax.methods.ad import AD, ADConfig
from ad_jax.methods.train_state import INPUTS, TrainState


@dataclasses.dataclass(frozen=True)
class LateConfig(ADConfig):
    """Settings of late distillation, in addition to those of ``ADConfig``.

    Attributes:
      skip: fraction of each window, at its beginning, that is context only.
    """

    skip: float = 0.25


def make(model, optimizer, env, env_params, settings: LateConfig) -> Method:
    """See ``MethodSpec.make``. Only the update differs from algorithm distillation."""

    def loss(params, batch, key):
        keys = dict(zip(("dropout", "mask"), jax.random.split(key), strict=True))
        inputs = {name: batch[name] for name in INPUTS}
        logits_BxTxA = model.apply(params, **inputs, train=True, rngs=keys)
        late = slice(int(logits_BxTxA.shape[1] * settings.skip), None)
        return optax.softmax_cross_entropy_with_integer_labels(
            logits_BxTxA[:, late], batch["action"][:, late]
        ).mean()

    def update(state, batch, key):
        key = jax.random.fold_in(key, state.step)
        value, grads = jax.value_and_grad(loss)(state.params, batch, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": value, "grad_norm": optax.global_norm(grads)}
        return TrainState(state.step + 1, params, opt_state), metrics

    return AD.make(model, optimizer, env, env_params, settings)._replace(update=update)


late = MethodSpec(make=make, settings=LateConfig, group="late", reads="windows")
