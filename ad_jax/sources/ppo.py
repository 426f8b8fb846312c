"""Proximal policy optimisation (Schulman et al., arXiv:1707.06347) as a source.

The paper distils A3C (Table 4), whose actors each leave a learning history; here the parallel
actors of synchronous PPO do.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from ad_jax.errors import UserError
from ad_jax.interfaces import History, Source
from ad_jax.sources.networks import ActorCritic, over_observations


@dataclasses.dataclass(frozen=True)
class PPOConfig:
    """Settings of PPO; the defaults learn every goal of Dark Room.

    Attributes:
      num_streams: actors per task; each leaves a learning history.
      rollout_steps: steps of every actor between two updates.
      num_epochs: passes over a rollout.
      num_minibatches: parts of a pass.
      learning_rate: of Adam, constant.
      hidden: widths of the hidden layers of policy and value.
      discount: γ.
      gae_lambda: λ of generalised advantage estimation.
      clip: largest change of the probability ratio, and of the value.
      entropy_cost: weight of the entropy bonus.
      value_cost: weight of the value loss.
      max_grad_norm: the gradient is clipped to this global norm.
      min_advantage_std: advantages are divided by their standard deviation, but at least by this,
        so that a rollout without rewards does not blow up noise.
      privileged: the source sees the environment's ``privileged_observation``; the history holds
        the ordinary observation all the same.
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
    value_cost: float = 0.5
    max_grad_norm: float = 0.5
    min_advantage_std: float = 0.1
    privileged: bool = False


@struct.dataclass
class PPOState:
    """One task's learner between two updates; ``observation`` is what the policy sees next."""

    key: jax.Array
    params: Any
    opt_state: Any
    env_params: Any
    env_state: Any
    observation: jax.Array
    is_first: jax.Array


@struct.dataclass
class Batch:
    """What the loss needs of a step; every field is [steps]."""

    seen: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array


def ppo(env: Any, config: PPOConfig) -> Source:
    """PPO on one task of ``env``, to be vmapped over tasks and scanned over updates.

    Args:
      env: a gymnax environment with discrete actions.
      config: see PPOConfig.

    Returns:
      A Source; a block is one rollout, History [num_streams, rollout_steps].

    Raises:
      UserError: the rollout can't be cut into equal minibatches, or ``privileged`` is set and the
        environment has nothing privileged to show.
    """
    streams, steps = config.num_streams, config.rollout_steps
    if (streams * steps) % config.num_minibatches:
        raise UserError(
            f"source.num_minibatches={config.num_minibatches} does not divide the "
            f"{streams} x {steps} transitions of a rollout"
        )
    if config.privileged and not hasattr(env, "privileged_observation"):
        raise UserError(f"source.privileged: {env.name} has no privileged_observation")

    space = env.observation_space(env.default_params)
    if config.privileged:
        space = env.privileged_observation_space(env.default_params)
    network = ActorCritic(space, env.num_actions, config.hidden)
    bind = over_observations(network)
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adam(config.learning_rate, eps=1e-5),
    )
    env_reset = jax.vmap(env.reset, in_axes=(0, None))
    env_step = jax.vmap(env.step, in_axes=(0, 0, 0, None))

    def seen_by_source(observation: jax.Array, env_state: Any, env_params: Any) -> jax.Array:
        if not config.privileged:
            return observation
        return jax.vmap(env.privileged_observation, in_axes=(0, None))(env_state, env_params)

    def init(key: jax.Array, env_params: Any) -> PPOState:
        key, key_reset, key_params = jax.random.split(key, 3)
        observation, env_state = env_reset(jax.random.split(key_reset, streams), env_params)
        seen = seen_by_source(observation, env_state, env_params)
        params = network.init(key_params, seen[0])
        return PPOState(
            key=key,
            params=params,
            opt_state=optimizer.init(params),
            env_params=env_params,
            env_state=env_state,
            observation=observation,
            is_first=jnp.ones(streams, bool),
        )

    def rollout(state: PPOState, key: jax.Array):
        """Acts for ``rollout_steps``; returns the state, the history [time, stream], the data."""
        policy = bind(state.params)
        key_noise, key_env = jax.random.split(key)
        noise = jax.random.gumbel(key_noise, (steps, streams, env.num_actions))
        env_keys = jax.random.split(key_env, (steps, streams))

        def act(carry, noise_and_keys):
            env_state, observation, is_first = carry
            noise, keys = noise_and_keys
            seen = seen_by_source(observation, env_state, state.env_params)
            logits, value = policy(seen)
            action = jnp.argmax(logits + noise, -1)
            log_prob = _log_prob(logits, action)
            next_observation, env_state, reward, terminated, truncated, info = env_step(
                keys, env_state, action, state.env_params
            )
            final = "privileged_observation" if config.privileged else "final_observation"
            done = terminated | truncated
            history = History(
                observation=observation,
                action=action,
                reward=reward.astype(jnp.float32),
                is_first=is_first,
                is_last=done,
                is_terminal=terminated,
            )
            _, next_value = policy(info[final])
            data = (seen, log_prob, value, next_value)
            return (env_state, next_observation, done), (history, data)

        carry = (state.env_state, state.observation, state.is_first)
        carry, (history, data) = jax.lax.scan(act, carry, (noise, env_keys))
        env_state, observation, is_first = carry
        state = state.replace(env_state=env_state, observation=observation, is_first=is_first)
        return state, history, data

    def loss(params: Any, batch: Batch) -> jax.Array:
        logits, value = bind(params)(batch.seen)
        std = jnp.maximum(batch.advantage.std(), config.min_advantage_std)
        advantage = (batch.advantage - batch.advantage.mean()) / std
        ratio = jnp.exp(_log_prob(logits, batch.action) - batch.log_prob)
        clipped = jnp.clip(ratio, 1 - config.clip, 1 + config.clip)
        policy_loss = -jnp.minimum(ratio * advantage, clipped * advantage).mean()

        target = batch.advantage + batch.value
        near = batch.value + jnp.clip(value - batch.value, -config.clip, config.clip)
        value_loss = jnp.maximum((value - target) ** 2, (near - target) ** 2).mean() / 2

        log_probs = jax.nn.log_softmax(logits)
        entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
        return policy_loss + config.value_cost * value_loss - config.entropy_cost * entropy

    def update(carry, minibatch: Batch):
        params, opt_state = carry
        grads = jax.grad(loss)(params, minibatch)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    def step(state: PPOState) -> tuple[PPOState, History]:
        key, key_rollout, key_shuffle = jax.random.split(state.key, 3)
        state, history, (seen, log_prob, value, next_value) = rollout(state, key_rollout)
        advantage = generalised_advantages(
            history.reward, value, next_value, history.is_last, history.is_terminal,
            config.discount, config.gae_lambda,
        )  # fmt: skip
        batch = Batch(
            seen=seen, action=history.action, log_prob=log_prob, value=value, advantage=advantage
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
            return jax.lax.scan(update, carry, parts)

        keys = jax.random.split(key_shuffle, config.num_epochs)
        (params, opt_state), _ = jax.lax.scan(epoch, (state.params, state.opt_state), keys)
        state = state.replace(key=key, params=params, opt_state=opt_state)
        return state, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), history)

    return Source(init=init, step=step, num_streams=streams, steps_per_block=steps)


def generalised_advantages(reward, value, next_value, is_last, is_terminal, discount, lam):
    """Generalised advantage estimation (Schulman et al., arXiv:1506.02438).

    A time limit is no end of the world: only a terminal step is not bootstrapped from.

    Args:
      reward, value, is_last, is_terminal: [time, ...].
      next_value: [time, ...], value of what followed the action, before any reset.
      discount: γ.
      lam: λ.

    Returns:
      Advantages, float32 [time, ...].
    """
    delta = reward + discount * jnp.where(is_terminal, 0.0, next_value) - value
    decay = discount * lam * jnp.where(is_last, 0.0, 1.0)

    def backup(advantage, inputs):
        delta, decay = inputs
        advantage = delta + decay * advantage
        return advantage, advantage

    _, advantage = jax.lax.scan(backup, jnp.zeros_like(value[0]), (delta, decay), reverse=True)
    return advantage


def _log_prob(logits: jax.Array, action: jax.Array) -> jax.Array:
    log_probs = jax.nn.log_softmax(logits)
    return jnp.take_along_axis(log_probs, action[..., None], -1)[..., 0]
