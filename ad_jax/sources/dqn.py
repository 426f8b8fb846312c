"""Deep Q-learning with Q(λ) returns as a source: the paper's learner for Watermaze (Table 5).

Mnih et al. (Nature, 2015), with Peng's Q(λ) over replayed sequences. The replay holds what the
learner saw: where an environment draws its pictures from a pose (``render_observation``), it holds
poses, and pictures are drawn again for every update.
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
from ad_jax.losses import q_lambda_returns
from ad_jax.sources.actors import ActorState, Rollout, by_stream, make_actors
from ad_jax.sources.networks import QNetwork, over_observations


@dataclasses.dataclass(frozen=True)
class DQNConfig:
    """Settings of DQN; the defaults learn every goal of Dark Room.

    Attributes:
      num_streams: actors per task; each makes one learning history.
      rollout_steps: steps of every actor between two rounds of updates.
      updates_per_rollout: gradient updates in a round.
      batch_size: sequences per update.
      sequence_steps: steps of a sequence.
      replay_steps: steps in the replay, over all actors; the oldest are overwritten.
      q_lambda: λ; 0 is one-step Q-learning.
      discount: γ.
      epsilon_start: initial share of random actions.
      epsilon_end: final share of random actions.
      epsilon_steps: steps of an actor over which that share falls linearly.
      target_period: updates between two copies of the network to the target network.
      learning_rate: of Adam, constant.
      hidden: widths of the hidden layers.
      max_grad_norm: the gradient is clipped to this global norm.
      encoder: of pictures; see ``ad_jax.models.images``.
      privileged: the source sees the environment's ``privileged_observation``; the history still
        holds the ordinary observation.
    """

    num_streams: int = 16
    rollout_steps: int = 20
    updates_per_rollout: int = 8
    batch_size: int = 16
    sequence_steps: int = 10
    replay_steps: int = 32_000
    q_lambda: float = 0.75
    discount: float = 0.9
    epsilon_start: float = 1.0
    epsilon_end: float = 0.02
    epsilon_steps: int = 3000
    target_period: int = 50
    learning_rate: float = 2e-3
    hidden: tuple[int, ...] = (32,)
    max_grad_norm: float = 10.0
    encoder: str = "resnet"
    privileged: bool = False


@struct.dataclass
class DQNState:
    """One task's learner between two rounds of updates.

    Attributes:
      replay: steps [capacity, stream, ...], a ring of whole rollouts.
      rounds: int32, rounds of updates made.
    """

    key: jax.Array
    params: Any
    target_params: Any
    opt_state: Any
    actors: ActorState
    replay: "Replayed"
    rounds: jax.Array


@struct.dataclass
class Replayed:
    """What the loss reads; every field is [time, stream, ...]."""

    seen: jax.Array
    next_seen: jax.Array
    action: jax.Array
    reward: jax.Array
    is_last: jax.Array
    is_terminal: jax.Array


def dqn(env: Any, config: DQNConfig) -> Source:
    """DQN on one task of ``env``, to be vmapped over tasks and scanned over rounds.

    Args:
      env: a gymnax environment with discrete actions.
      config: see DQNConfig.

    Returns:
      A Source; an update is one rollout, History [num_streams, rollout_steps].

    Raises:
      UserError: a sequence is longer than a rollout, the replay holds no rollout, or the
        environment does not suit the source; see ``make_actors`` and ``Features``.
    """
    streams, steps = config.num_streams, config.rollout_steps
    kept = config.replay_steps // (streams * steps)  # rollouts
    if not kept:
        raise UserError(
            f"source.dqn.replay_steps={config.replay_steps} is less than one rollout of "
            f"{streams} x {steps}"
        )
    if not 1 <= config.sequence_steps <= steps:
        raise UserError(
            f"source.dqn.sequence_steps={config.sequence_steps} does not fit into a rollout of "
            f"{steps} steps (source.dqn.rollout_steps)"
        )
    actors = make_actors(env, streams, config.privileged, draws_pictures=True)
    picture = None if config.privileged else getattr(env, "render_observation", None)
    num_actions = Actions.of(env).number("source.name='dqn'")
    network = QNetwork(actors.space, num_actions, config.hidden, config.encoder, picture)
    bind = over_observations(network)
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm), optax.adam(config.learning_rate)
    )
    epsilon = optax.linear_schedule(
        config.epsilon_start, config.epsilon_end, max(1, config.epsilon_steps)
    )

    def init(key: jax.Array, env_params: Any) -> DQNState:
        key, key_reset, key_params = jax.random.split(key, 3)
        state = actors.reset(key_reset, env_params)
        seen = actors.seen(state)
        params = network.init(key_params, seen)
        empty = lambda dtype, *shape: jnp.zeros((kept * steps, streams, *shape), dtype)
        replay = Replayed(
            seen=empty(seen.dtype, *seen.shape[1:]),
            next_seen=empty(seen.dtype, *seen.shape[1:]),
            action=empty(jnp.int32),
            reward=empty(jnp.float32),
            is_last=empty(bool),
            is_terminal=empty(bool),
        )
        return DQNState(
            key, params, params, optimizer.init(params), state, replay, jnp.zeros((), jnp.int32)
        )

    def loss(params: Any, target_params: Any, batch: Replayed) -> jax.Array:
        """The loss of a batch of sequences [time, batch]."""
        next_value = bind(target_params)(batch.next_seen).max(-1)
        target = q_lambda_returns(
            batch.reward, next_value, batch.is_last, batch.is_terminal,
            config.discount, config.q_lambda,
        )  # fmt: skip
        q = jnp.take_along_axis(bind(params)(batch.seen), batch.action[..., None], -1)[..., 0]
        return ((q - jax.lax.stop_gradient(target)) ** 2).mean() / 2

    def draw(key: jax.Array, replay: Replayed, rounds: jax.Array) -> Replayed:
        """Sequences [time, batch] that do not cross the ring's write position."""
        filled = jnp.minimum(rounds, kept) * steps
        oldest = jnp.where(rounds < kept, 0, rounds % kept * steps)
        key_start, key_stream = jax.random.split(key)
        shape = (config.batch_size,)
        start = jax.random.randint(key_start, shape, 0, filled - config.sequence_steps + 1)
        stream = jax.random.randint(key_stream, shape, 0, streams)
        time = oldest + start + jnp.arange(config.sequence_steps)[:, None]
        return jax.tree.map(lambda x: x[time % (kept * steps), stream], replay)

    def step(state: DQNState) -> tuple[DQNState, History]:
        key, key_explore, key_random, key_env, key_draw = jax.random.split(state.key, 5)
        q_values = bind(state.params)
        time = state.rounds * steps + jnp.arange(steps)
        explores = jax.random.uniform(key_explore, (steps, streams)) < epsilon(time)[:, None]
        anything = jax.random.randint(key_random, (steps, streams), 0, num_actions)

        def select_action(seen: jax.Array, draws: Any):
            explores, anything = draws
            return jnp.where(explores, anything, jnp.argmax(q_values(seen), -1)), None

        acting, rollout = actors.rollout(state.actors, key_env, select_action, (explores, anything))
        place = state.rounds % kept * steps
        replay = jax.tree.map(
            lambda ring, new: jax.lax.dynamic_update_slice_in_dim(ring, new, place, 0),
            state.replay,
            _replayed(rollout),
        )
        rounds = state.rounds + 1

        def update(carry: Any, key_and_number: Any):
            params, target_params, opt_state = carry
            key, number = key_and_number
            grads = jax.grad(loss)(params, target_params, draw(key, replay, rounds))
            updates, opt_state = optimizer.update(grads, opt_state, params)
            params = optax.apply_updates(params, updates)
            copy = (number + 1) % config.target_period == 0
            target_params = jax.tree.map(
                lambda new, old: jnp.where(copy, new, old), params, target_params
            )
            return (params, target_params, opt_state), None

        number = state.rounds * config.updates_per_rollout + jnp.arange(config.updates_per_rollout)
        keys = jax.random.split(key_draw, config.updates_per_rollout)
        learnt = (state.params, state.target_params, state.opt_state)
        learnt, _ = jax.lax.scan(update, learnt, (keys, number))
        return DQNState(key, *learnt, acting, replay, rounds), by_stream(rollout.history)

    return Source(init=init, step=step, num_streams=streams, steps_per_update=steps)


def _replayed(rollout: Rollout) -> Replayed:
    h = rollout.history
    return Replayed(
        seen=rollout.seen,
        next_seen=rollout.next_seen,
        action=h.action,
        reward=h.reward,
        is_last=h.is_last,
        is_terminal=h.is_terminal,
    )
