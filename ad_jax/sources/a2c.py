"""Advantage actor-critic as a source: the synchronous form of the paper's A3C (Table 4).

A3C's actors (Mnih et al., arXiv:1602.01783) act with parameters that are a little old, and update
the shared parameters one after the other. Here all actors act side by side with the same
parameters. Then they update them together or, with ``num_groups``, one group after another. Within
such a round, a later group sees the updates of the earlier ones: it acted with the parameters from
before the round, but its gradient is taken at the updated ones. A3C's actors instead take their
gradients at the parameters that they acted with.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from ad_jax.actions import Actions
from ad_jax.errors import UserError
from ad_jax.interfaces import History, Source
from ad_jax.losses import annealed, generalised_advantages
from ad_jax.sources.actors import ActorState, by_stream, make_actors, sampled
from ad_jax.sources.networks import ActorCritic, over_observations


@dataclasses.dataclass(frozen=True)
class A2CConfig:
    """Settings of A2C; the defaults learn every goal of Dark Room.

    Attributes:
      num_streams: actors per task; each makes one learning history.
      rollout_steps: steps of every actor between two updates.
      num_groups: groups of actors that update one after another. A later group takes its gradient
        at parameters that the earlier groups of the round have already updated.
      learning_rate: of Adam, constant.
      adam_eps: ε of Adam.
      hidden: widths of the hidden layers of policy and value.
      discount: γ.
      gae_lambda: λ of generalised advantage estimation.
      entropy_cost: initial weight of the entropy bonus.
      entropy_end: the weight to which it falls linearly over the first ``entropy_updates`` updates.
        If it is near 0, the end of a history has little exploration noise.
      entropy_updates: 0 keeps the weight as it is.
      value_cost: weight of the value loss.
      max_grad_norm: the gradient is clipped to this global norm.
      privileged: the source sees the environment's ``privileged_observation``; the history still
        holds the ordinary observation.
      normalize: the source is shown standardised observations (where they are floats) and scaled
        rewards; see ``scaling``. The history holds the environment's own numbers.
    """

    num_streams: int = 32
    rollout_steps: int = 20
    num_groups: int = 1
    learning_rate: float = 1e-2
    adam_eps: float = 1e-6
    hidden: tuple[int, ...] = (32,)
    discount: float = 0.9
    gae_lambda: float = 0.95
    entropy_cost: float = 0.01
    entropy_end: float = 0.0
    entropy_updates: int = 0
    value_cost: float = 0.5
    max_grad_norm: float = 0.5
    privileged: bool = False
    normalize: bool = False


@struct.dataclass
class A2CState:
    """One task's learner between two updates."""

    key: jax.Array
    params: Any
    opt_state: Any
    actors: ActorState
    updates: jax.Array


def a2c(env: Any, config: A2CConfig) -> Source:
    """A2C on one task of ``env``, to be vmapped over tasks and scanned over updates.

    Args:
      env: a gymnax environment; for continuous actions see ``envs.binned``.
      config: see A2CConfig.

    Returns:
      A Source; an update is one rollout, History [num_streams, rollout_steps].

    Raises:
      UserError: the groups do not divide the actors, or the environment does not suit the
        source; see ``make_actors`` and ``Features``.
    """
    streams, steps = config.num_streams, config.rollout_steps
    if streams % config.num_groups:
        raise UserError(
            f"source.a2c.num_groups={config.num_groups} does not divide the {streams} actors"
        )
    scaled_by = config.discount if config.normalize else None
    actors = make_actors(env, streams, config.privileged, scaled_by=scaled_by)
    actions = Actions.of(env)
    network = ActorCritic(actors.space, actions.num_logits, config.hidden)
    bind = over_observations(network)
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adam(config.learning_rate, eps=config.adam_eps),
    )

    entropy_cost = annealed(config.entropy_cost, config.entropy_end, config.entropy_updates)

    def init(key: jax.Array, env_params: Any) -> A2CState:
        key, key_reset, key_params = jax.random.split(key, 3)
        state = actors.reset(key_reset, env_params)
        params = network.init(key_params, actors.seen(state)[0])
        zero = jnp.zeros((), jnp.int32)
        return A2CState(key, params, optimizer.init(params), state, zero)

    def loss(params: Any, seen, action, advantage, target, entropy_weight: jax.Array):
        """The loss of a group of actors; all arrays are [time, actor, ...]."""
        logits, value = bind(params)(seen)
        policy_loss = -(actions.log_prob(logits, action) * advantage).mean()
        value_loss = ((value - target) ** 2).mean() / 2
        bonus = entropy_weight * actions.entropy(logits).mean()
        return policy_loss + config.value_cost * value_loss - bonus

    def step(state: A2CState) -> tuple[A2CState, History]:
        key, key_draws, key_env = jax.random.split(state.key, 3)
        policy = bind(state.params)
        draws = jax.random.gumbel(key_draws, (steps, streams, actions.num_logits))
        acting, rollout = actors.rollout(state.actors, key_env, sampled(policy, actions), draws)
        history, (_, value) = rollout.history, rollout.extras
        advantage = generalised_advantages(
            rollout.reward, value, policy(rollout.next_seen)[1], history.is_last,
            history.is_terminal, config.discount, config.gae_lambda,
        )  # fmt: skip

        entropy_weight = entropy_cost(state.updates)

        def update(carry: Any, group: Any):
            params, opt_state = carry
            grads = jax.grad(loss)(params, *group, entropy_weight)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

        def in_groups(x: jax.Array) -> jax.Array:  # [time, stream] → [group, time, actor]
            return jnp.moveaxis(x.reshape(steps, config.num_groups, -1, *x.shape[2:]), 1, 0)

        data = (rollout.seen, history.action, advantage, advantage + value)
        learnt, _ = jax.lax.scan(
            update, (state.params, state.opt_state), jax.tree.map(in_groups, data)
        )
        return A2CState(key, *learnt, acting, state.updates + 1), by_stream(history)

    return Source(init=init, step=step, num_streams=streams, steps_per_update=steps)
