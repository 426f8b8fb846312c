"""Proximal policy optimisation (Schulman et al., arXiv:1707.06347) as a source.

The paper distils A3C (Table 4), where each actor makes one learning history. Here each of PPO's
parallel actors makes one.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from ad_jax.actions import Actions
from ad_jax.errors import UserError
from ad_jax.interfaces import History, Source
from ad_jax.losses import annealed, clipped_surrogate, generalised_advantages
from ad_jax.sources.actors import ActorState, by_stream, make_actors, sampled
from ad_jax.sources.networks import ActorCritic, over_observations


@dataclasses.dataclass(frozen=True)
class PPOConfig:
    """Settings of PPO; the defaults learn every goal of Dark Room.

    Attributes:
      num_streams: actors per task; each makes one learning history.
      rollout_steps: steps of every actor between two updates.
      num_epochs: passes over a rollout.
      num_minibatches: parts of a pass.
      learning_rate: of Adam, constant.
      hidden: widths of the hidden layers of policy and value.
      discount: γ.
      gae_lambda: λ of generalised advantage estimation.
      clip: largest change of the probability ratio, and of the value.
      entropy_cost: initial weight of the entropy bonus.
      entropy_end: the weight to which it falls linearly over the first ``entropy_updates`` updates.
        If it is near 0, the end of a history has little exploration noise.
      entropy_updates: 0 keeps the weight as it is.
      value_cost: weight of the value loss.
      max_grad_norm: the gradient is clipped to this global norm.
      min_advantage_std: advantages are divided by their standard deviation, but at least by this,
        so that small chance differences in a rollout without rewards do not become large.
      privileged: the source sees the environment's ``privileged_observation``; the history still
        holds the ordinary observation.
      normalize: the source is shown standardised observations (where they are floats) and scaled
        rewards; see ``scaling``. The history holds the environment's own numbers.
    """

    num_streams: int = 8
    rollout_steps: int = 20
    num_epochs: int = 4
    num_minibatches: int = 1
    learning_rate: float = 3e-3
    hidden: tuple[int, ...] = (32,)
    discount: float = 0.9
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy_cost: float = 0.02
    entropy_end: float = 0.0
    entropy_updates: int = 0
    value_cost: float = 0.5
    max_grad_norm: float = 0.5
    min_advantage_std: float = 0.1
    privileged: bool = False
    normalize: bool = False


@struct.dataclass
class PPOState:
    """One task's learner between two updates."""

    key: jax.Array
    params: Any
    opt_state: Any
    actors: ActorState
    updates: jax.Array


@struct.dataclass
class Batch:
    """What the loss reads; every field is [steps, ...]."""

    seen: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array


def ppo(env: Any, config: PPOConfig) -> Source:
    """PPO on one task of ``env``, to be vmapped over tasks and scanned over updates.

    Args:
      env: a gymnax environment; for continuous actions see ``envs.binned``.
      config: see PPOConfig.

    Returns:
      A Source; an update is one rollout, History [num_streams, rollout_steps].

    Raises:
      UserError: the rollout can't be cut into equal minibatches, or the environment does not suit
        the source; see ``make_actors`` and ``Features``.
    """
    streams, steps = config.num_streams, config.rollout_steps
    if (streams * steps) % config.num_minibatches:
        raise UserError(
            f"source.ppo.num_minibatches={config.num_minibatches} does not divide the "
            f"{streams} x {steps} transitions of a rollout"
        )
    scaled_by = config.discount if config.normalize else None
    actors = make_actors(env, streams, config.privileged, scaled_by=scaled_by)
    actions = Actions.of(env)
    network = ActorCritic(actors.space, actions.num_logits, config.hidden)
    bind = over_observations(network)
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adam(config.learning_rate, eps=1e-5),
    )

    entropy_cost = annealed(config.entropy_cost, config.entropy_end, config.entropy_updates)

    def init(key: jax.Array, env_params: Any) -> PPOState:
        key, key_reset, key_params = jax.random.split(key, 3)
        state = actors.reset(key_reset, env_params)
        params = network.init(key_params, actors.seen(state)[0])
        zero = jnp.zeros((), jnp.int32)
        return PPOState(key, params, optimizer.init(params), state, zero)

    def loss(params: Any, batch: Batch, entropy_weight: jax.Array) -> jax.Array:
        logits, value = bind(params)(batch.seen)
        chosen = actions.log_prob(logits, batch.action)
        policy_loss = clipped_surrogate(
            chosen, batch.log_prob, batch.advantage, config.clip, config.min_advantage_std
        )

        target = batch.advantage + batch.value
        near = batch.value + jnp.clip(value - batch.value, -config.clip, config.clip)
        value_loss = jnp.maximum((value - target) ** 2, (near - target) ** 2).mean() / 2

        bonus = entropy_weight * actions.entropy(logits).mean()
        return policy_loss + config.value_cost * value_loss - bonus

    def update(entropy_weight: jax.Array, carry, minibatch: Batch):
        params, opt_state = carry
        grads = jax.grad(loss)(params, minibatch, entropy_weight)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    def step(state: PPOState) -> tuple[PPOState, History]:
        key, key_rollout, key_shuffle = jax.random.split(state.key, 3)
        key_draws, key_env = jax.random.split(key_rollout)
        policy = bind(state.params)
        draws = jax.random.gumbel(key_draws, (steps, streams, actions.num_logits))
        acting, rollout = actors.rollout(state.actors, key_env, sampled(policy, actions), draws)
        history, (logits, value) = rollout.history, rollout.extras
        advantage = generalised_advantages(
            rollout.reward, value, policy(rollout.next_seen)[1], history.is_last,
            history.is_terminal, config.discount, config.gae_lambda,
        )  # fmt: skip
        batch = Batch(
            seen=rollout.seen,
            action=history.action,
            log_prob=actions.log_prob(logits, history.action),
            value=value,
            advantage=advantage,
        )
        batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

        def epoch(carry, key):
            parts = batch
            if config.num_minibatches > 1:
                order = jax.random.permutation(key, streams * steps)
                parts = jax.tree.map(lambda x: x[order], batch)
            parts = jax.tree.map(
                lambda x: x.reshape(config.num_minibatches, -1, *x.shape[1:]), parts
            )
            return jax.lax.scan(partial(update, entropy_cost(state.updates)), carry, parts)

        keys = jax.random.split(key_shuffle, config.num_epochs)
        (params, opt_state), _ = jax.lax.scan(epoch, (state.params, state.opt_state), keys)
        return PPOState(key, params, opt_state, acting, state.updates + 1), by_stream(history)

    return Source(init=init, step=step, num_streams=streams, steps_per_update=steps)
