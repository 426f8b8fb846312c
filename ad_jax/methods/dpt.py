"""The decision-pretrained transformer (Lee et al., arXiv:2306.14892): what would an expert do?

The contexts are the same histories as those of algorithm distillation, but at every step the model
predicts the *optimal* action instead of the learner's. Sampling actions from it is then a form of
posterior sampling: each is optimal in some task that is consistent with what was seen.

In the paper, a context is a set of transitions, with a separate query state. Here every state of a
window is a query, and what came before it is its context (as in Lin et al., arXiv:2310.08566). So
the tokens, the model and the cache are the same as for all other methods.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ad_jax.errors import UserError
from ad_jax.evaluation.agents import has_optimal_agent, optimal_agent
from ad_jax.interfaces import Method, MethodSpec
from ad_jax.methods.ad import ADConfig, of_windows
from ad_jax.methods.train_state import INPUTS, gradient_update, training_output


def make(model, optimizer, env, env_params, settings: ADConfig) -> Method:
    """DPT as a Method; see ``MethodSpec.make``.

    Raises:
      UserError: no optimal policy is known.
    """
    if not has_optimal_agent(env):
        raise UserError(f"method='DPT' can't be used in {env.name}: no optimal policy is known")
    optimal_actions = make_labels(env, env_params)

    def loss(params: Any, batch: dict[str, jax.Array], key: jax.Array):
        actions, logits_BxTxA = model.actions, training_output(model, params, batch, key)
        inputs = {name: batch[name] for name in INPUTS}
        action_BxT, known_BxT = optimal_actions(batch["task"], inputs)
        losses_BxT = actions.cross_entropy(logits_BxTxA, action_BxT, settings.label_smoothing)
        right_BxT = actions.equal(actions.best(logits_BxTxA), action_BxT)
        mean = lambda x_BxT: (x_BxT * known_BxT).sum() / jnp.maximum(known_BxT.sum(), 1)
        value = mean(losses_BxT)
        return value, {"loss": value, "accuracy": mean(right_BxT)}

    update = gradient_update(loss, optimizer, settings.accumulate)
    return of_windows(model, optimizer, settings, update)


DPT = MethodSpec(make=make, settings=ADConfig, group="train", reads="windows")


def make_labels(env: Any, env_params: Any):
    """What the optimal agent would do at each step of a window.

    It tracks the rewards in the window, since the optimal action may depend on them (on whether the
    key was found, for example). So the optimal action is not known for the steps before the first
    episode that begins in the window.

    Args:
      env: a gymnax environment with an optimal agent.
      env_params: of the training tasks, with a leading axis.

    Returns:
      ``labels(task, inputs) -> (action int32 [B, T, ...], known bool [B, T])``; ``task`` is int32
      [B], and ``inputs`` are the model's, [B, T, ...].
    """
    env_params = jax.tree.map(np.asarray, env_params)

    def plan(params):
        return optimal_agent(env, params).init(jax.random.key(0))

    def labels(task_B: jax.Array, inputs: dict[str, jax.Array]):
        with jax.transfer_guard("allow"), jax.ensure_compile_time_eval():  # once, when compiled
            plans = jax.tree.map(np.asarray, jax.jit(jax.vmap(plan))(env_params))

        def of_window(task, inputs):
            params, memory = jax.tree.map(lambda x: jnp.asarray(x)[task], (env_params, plans))
            agent = optimal_agent(env, params)
            seen = tuple(inputs[name] for name in INPUTS)
            _, action_T = jax.lax.scan(lambda memory, step: agent.act(memory, *step), memory, seen)
            return action_T, jnp.cumsum(inputs["is_first"]) > 0

        return jax.vmap(of_window)(task_B, inputs)

    return labels
