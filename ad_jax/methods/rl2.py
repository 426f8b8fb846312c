"""RL² (Duan et al., arXiv:1611.02779): online meta-reinforcement learning, the paper's baseline.

A policy with a memory plays trials: several episodes of one task, after which the memory is
cleared and another task is drawn. Proximal policy optimisation maximises the return of whole
trials, so the policy learns to explore in the first episodes for the benefit of the later ones.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ad_jax.actions import Actions
from ad_jax.distributed.sharding import shard_batch
from ad_jax.errors import UserError
from ad_jax.evaluation.agents import model_agent, random_agent
from ad_jax.interfaces import History, Method, MethodSpec
from ad_jax.losses import annealed, clipped_surrogate, generalised_advantages
from ad_jax.methods.train_state import TrainState, init_state
from ad_jax.models.base import SequenceModel
from ad_jax.rollout import make_rollouts, recording

INITIAL_TRIALS = 64  # the most whose observations a model is initialised with
MIN_ADVANTAGE_STD = 1e-3


@dataclasses.dataclass(frozen=True)
class RL2Config:
    """Settings of RL².

    Attributes:
      num_trials: trials played between two updates, each of a task of its own.
      episodes: episodes per trial; 10 in the paper's dark rooms.
      num_epochs: passes over the trials.
      num_minibatches: parts of a pass, each of whole trials; one step of the optimiser each.
      discount: γ; returns are over the whole trial, across the ends of episodes.
      gae_lambda: λ of generalised advantage estimation.
      clip: largest change of the probability ratio.
      entropy_cost: initial weight of the entropy bonus; without a bonus, the policy ends up
        searching only where training tasks had their rewards.
      entropy_end: the weight to which it falls linearly over the first ``entropy_updates`` updates.
      entropy_updates: 0 keeps the weight as it is.
      value_cost: weight of the value loss. If returns are well above 1, a larger weight takes up
        most of the clipped gradient, and the policy learns three times as slowly.
    """

    num_trials: int = 256
    episodes: int = 10
    num_epochs: int = 3
    num_minibatches: int = 4
    discount: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy_cost: float = 0.02
    entropy_end: float = 0.0
    entropy_updates: int = 0
    value_cost: float = 0.05

    def __post_init__(self):
        if self.num_trials % self.num_minibatches:
            raise UserError(
                f"num_minibatches={self.num_minibatches} does not divide "
                f"num_trials={self.num_trials}"
            )

    @property
    def optimizer_steps(self) -> int:
        return self.num_epochs * self.num_minibatches


def validate(settings: RL2Config, model, max_steps: int, experts: bool) -> None:
    """Refuses models that RL² can't train; see ``MethodSpec.validate``."""
    del experts
    trial_steps, context = settings.episodes * max_steps, model.config.context
    if not model.config.recurrent and context < trial_steps:
        raise UserError(
            f"context={context} is shorter than an RL2 trial of {trial_steps} steps: raise it, or "
            f"lower episodes={settings.episodes}"
        )
    # With these, the policy would not be the one that acted; but before the first step, the
    # probability ratios must be 1.
    for name in ("dropout", "attention_dropout", "mask_probability"):
        if value := getattr(model.config, name, 0.0):
            raise UserError(f"{name}={value}: RL2 learns from its own policy's actions: give 0")
    if cost := model.config.shown_cost:
        raise UserError(f"shown_cost={cost}: RL2 learns from rewards alone: give 0")


def make(model, optimizer, env, env_params, settings: RL2Config) -> Method:
    """RL² as a Method; see ``MethodSpec.make``."""
    trial_steps = settings.episodes * int(np.max(env_params.max_steps_in_episode))
    update = make_update(env, env_params, model, optimizer, settings, trial_steps)

    def init(key, example):
        del example
        seen = random_inputs(env, env_params, jax.random.fold_in(key, 1))
        return init_state(key, model, optimizer, seen)

    return Method(
        init=init,
        update=lambda state, batch, key: update(state, key),
        agent=partial(model_agent, model),
        shared=settings.num_trials // settings.num_minibatches,
        shared_name="num_trials / num_minibatches",
        transitions=settings.num_trials * trial_steps,
    )


RL2 = MethodSpec(
    make=make,
    settings=RL2Config,
    group="rl2",
    reads="tasks",
    extra_outputs=lambda env: 1,  # the value
    validate=validate,
)


def random_inputs(env: Any, env_params: Any, key: jax.Array) -> dict[str, jax.Array]:
    """The model's inputs in an episode of a random agent on some of the tasks.

    An image encoder takes its mean and deviation from them.

    Args:
      env: a gymnax environment.
      env_params: of the training tasks, with a leading axis.
      key: for all draws.

    Returns:
      The model's inputs, [trial, time, ...].
    """
    env_params = jax.tree.map(np.asarray, env_params)
    num_tasks = len(jax.tree.leaves(env_params)[0])
    tasks = np.linspace(0, num_tasks - 1, min(num_tasks, INITIAL_TRIALS)).astype(int)
    params = jax.tree.map(lambda x: jnp.asarray(x[tasks]), env_params)
    steps = int(np.max(env_params.max_steps_in_episode))
    init, advance = make_rollouts(env, lambda _: recording(random_agent(Actions.of(env))))
    _, _, inputs = advance(init(key, jnp.asarray(tasks), params, 1), steps)
    return jax.tree.map(lambda x: x[:, 0], inputs)


def make_update(
    env: Any,
    env_params: Any,
    model: SequenceModel,
    optimizer: optax.GradientTransformation,
    config: RL2Config,
    trial_steps: int,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """An update: plays trials on random tasks and learns from them; a pure function to be jitted.

    Args:
      env: a gymnax environment.
      env_params: of the training tasks, with a leading axis.
      model: with one extra output, the value.
      optimizer: from ``make_optimizer``; an update makes num_epochs * num_minibatches steps of it.
      config: see RL2Config.
      trial_steps: the length of a trial, at most the context of a transformer.

    Returns:
      ``update(state, key) -> (state, metrics)``; metrics are float32 scalars. Random draws depend
      on ``key``, which is the same in every call, and on ``state.step``.
    """
    entropy_cost = annealed(config.entropy_cost, config.entropy_end, config.entropy_updates)
    # NumPy arrays: if constants of a program are on a device, JAX must fetch them from it.
    env_params = jax.tree.map(np.asarray, env_params)
    num_tasks = len(jax.tree.leaves(env_params)[0])

    def play(params: Any, key: jax.Array) -> tuple[History, jax.Array, dict[str, jax.Array]]:
        """Plays trials: (history, outputs, inputs of the model), each [trial, time, ...]."""
        key_task, key = jax.random.split(key)
        task = jax.random.randint(key_task, (config.num_trials,), 0, num_tasks)
        slot, task = shard_batch(jnp.arange(config.num_trials)), shard_batch(task)
        agent = recording(model_agent(model, params, with_output=True))
        init, advance = make_rollouts(env, lambda _: agent)
        state = init(key, slot, jax.tree.map(lambda x: jnp.asarray(x)[task], env_params), 1)
        _, *played = advance(state, trial_steps)
        return jax.tree.map(lambda x: x[:, 0], played)

    def advantages(reward_BxT: jax.Array, value_BxT: jax.Array) -> jax.Array:
        """Advantages over the whole trial; after its last step, the value is 0."""
        reward_TxB, value_TxB = reward_BxT.T, value_BxT.T
        ends = jnp.zeros(reward_TxB.shape, bool).at[-1].set(True)
        following = jnp.roll(value_TxB, -1, axis=0)
        return generalised_advantages(
            reward_TxB, value_TxB, following, ends, ends, config.discount, config.gae_lambda
        ).T

    def loss(params: Any, part: dict[str, Any], entropy_weight: jax.Array):
        out = model.apply(params, **part["inputs"])  # the policy that acted: nothing is dropped
        logits, value = out[..., :-1], out[..., -1]
        chosen = model.actions.log_prob(logits, part["action"])
        policy_loss = clipped_surrogate(
            chosen, part["log_prob"], part["advantage"], config.clip, MIN_ADVANTAGE_STD
        )
        value_loss = ((value - part["target"]) ** 2).mean() / 2
        bonus = model.actions.entropy(logits).mean()
        total = policy_loss + config.value_cost * value_loss - entropy_weight * bonus
        metrics = {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": bonus}
        return total, {"loss": total, **metrics}

    def update(state: TrainState, key: jax.Array):
        key_play, key_learn = jax.random.split(jax.random.fold_in(key, state.step))
        history, out, inputs = play(state.params, key_play)
        logits, value = out[..., :-1], out[..., -1]
        advantage = advantages(history.reward, value)
        trials = {
            "inputs": inputs,
            "action": history.action,
            "log_prob": model.actions.log_prob(logits, history.action),
            "advantage": advantage,
            "target": advantage + value,
        }

        def learn(carry, rows):
            params, opt_state = carry
            part = jax.tree.map(lambda x: shard_batch(x[rows]), trials)
            gradients = jax.grad(loss, has_aux=True)
            grads, metrics = gradients(params, part, entropy_cost(state.step))
            metrics["grad_norm"] = optax.global_norm(grads)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), metrics

        def epoch(carry, key):
            key_order, _ = jax.random.split(key)
            rows = jax.random.permutation(key_order, config.num_trials)
            rows = rows.reshape(config.num_minibatches, -1)
            return jax.lax.scan(learn, carry, rows)

        keys = jax.random.split(key_learn, config.num_epochs)
        carry = state.params, state.opt_state
        (params, opt_state), metrics = jax.lax.scan(epoch, carry, keys)
        metrics = jax.tree.map(jnp.mean, metrics)
        metrics["trial_reward"] = history.reward.sum(1).mean()
        episode_steps = trial_steps // config.episodes
        metrics["last_return"] = history.reward[:, -episode_steps:].sum(1).mean()
        return TrainState(state.step + 1, params, opt_state), metrics

    return update
