"""Agents: random, optimal and noisy policies, and frozen models."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ad_jax.actions import Actions
from ad_jax.distributed import sharding
from ad_jax.envs import dynamic_programming
from ad_jax.envs.spaces import observation_dtype
from ad_jax.errors import UserError
from ad_jax.interfaces import Agent
from ad_jax.models.base import SequenceModel

MODES = ("fast", "exact")


def random_agent(actions: Actions) -> Agent:
    """Draws actions uniformly; its memory is its key."""

    def act(key, observation, previous_action, previous_reward, is_first):
        key, key_action = jax.random.split(key)
        return key, actions.draw_any(key_action)

    return Agent(init=lambda key: key, act=act)


def has_optimal_agent(env: Any) -> bool:
    """Whether there is an ``optimal_agent`` for the environment."""
    return hasattr(env, "known_state") or hasattr(env, "expert_action")


def optimal_agent(env: Any, env_params: Any) -> Agent:
    """The optimal policy of a task, by exact dynamic programming where the states are known.

    In that case it tracks the stage of the episode by counting rewards, one for each stage. In
    other environments it is their own ``expert_action(observation, env_params)``.
    """
    if not hasattr(env, "known_state"):
        return Agent(
            init=lambda key: (),
            act=lambda memory, observation, *_: (
                memory,
                env.expert_action(observation, env_params),
            ),
        )

    def init(key):
        del key
        policy = dynamic_programming.optimal_policy(env, env_params)
        return policy.astype(jnp.uint8), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)

    def act(memory, observation, previous_action, previous_reward, is_first):
        del previous_action
        policy_TxS, stage, time = memory
        stage = jnp.minimum(stage + (previous_reward > 0), env.num_stages - 1)
        stage, time = jnp.where(is_first, 0, stage), jnp.where(is_first, 0, time)
        state = env.known_state(observation, stage, time)
        action = policy_TxS[time, env.state_index(state)].astype(jnp.int32)
        return (policy_TxS, stage, time + 1), action

    return Agent(init=init, act=act)


def noisy_agent(
    agent: Agent,
    actions: Actions,
    epsilon: Callable[[Any, jax.Array], jax.Array],
    setting: Callable[[], Any] = tuple,
) -> Agent:
    """Takes a random action instead, with some probability.

    Args:
      agent: the agent without noise.
      actions: the action space.
      epsilon: ``epsilon(setting, time)``, that probability after ``time`` steps.
      setting: ``setting()`` is computed once, at the start, and passed to ``epsilon``.
    """

    def init(key):
        key, key_agent = jax.random.split(key)
        return key, jnp.zeros((), jnp.int32), setting(), agent.init(key_agent)

    def act(memory, *seen):
        key, time, chosen, inner = memory
        key, key_explore, key_action = jax.random.split(key, 3)
        inner, best = agent.act(inner, *seen)
        explores = jax.random.bernoulli(key_explore, epsilon(chosen, time))
        anything = actions.draw_any(key_action)
        return (key, time + 1, chosen, inner), jnp.where(explores, anything, best)

    return Agent(init, act)


def demonstrator(env: Any, env_params: Any, quality: float) -> Agent:
    """The optimal policy with so much noise that its mean return is ``quality`` of the optimum."""
    return noisy_agent(
        optimal_agent(env, env_params),
        Actions.of(env),
        epsilon=lambda noise, time: noise,
        setting=lambda: dynamic_programming.epsilon_for(env, env_params, quality),
    )


def prompted_agent(agent: Agent, shown: Agent, episodes: int) -> Agent:
    """An agent that watches another one act, which fills its context, before it acts itself.

    Args:
      agent: the agent that watches first.
      shown: the agent that acts in the first episodes.
      episodes: the number of these episodes.
    """

    def init(key):
        key_agent, key_shown = jax.random.split(key)
        return agent.init(key_agent), shown.init(key_shown), jnp.zeros((), jnp.int32)

    def act(memory, observation, previous_action, previous_reward, is_first):
        own, other, begun = memory
        begun += is_first
        step = observation, previous_action, previous_reward, is_first
        own, action = agent.act(own, *step)
        other, example = shown.act(other, *step)
        return (own, other, begun), jnp.where(begun > episodes, action, example)

    return Agent(init, act)


def model_agent(
    model: SequenceModel,
    params: Any,
    *,
    mode: str = "fast",
    temperature: float | jax.Array = 1.0,
    with_output: bool = False,
) -> Agent:
    """A frozen model.

    Args:
      model: the model.
      params: its parameters.
      mode: "fast" keeps the model's carry from step to step: a transformer's ring cache, with a
        cost per step that is linear in the context, or a recurrent state. "exact" recomputes the
        last ``context`` steps at every step, which is how the paper defines evaluation. The two
        can differ only after more than ``context`` steps.
      temperature: of the sampled actions; 0 always takes the most probable one.
      with_output: ``act`` also returns the model's output: the logits, then any extra outputs.

    Raises:
      UserError: there is no such mode.
    """
    if mode not in MODES:
        raise UserError(f"evaluation.mode={mode!r}: choose one of {MODES}")
    context = model.config.context
    over_window = model.clone(config=model.config.for_one_window())

    def fast_init():
        return model.initial_carry()

    def fast_logits(memory, step):
        return model.apply(params, memory, *step, method="step")

    def exact_init():
        steps = (
            jnp.zeros((context, *model.space.shape), observation_dtype(model.space)),
            jnp.zeros((context, *model.actions.shape), jnp.int32),
            jnp.zeros(context, jnp.float32),
            jnp.zeros(context, bool),
        )
        return steps, jnp.zeros((), jnp.int32)

    def exact_logits(memory, step):
        steps, seen = memory
        full = seen >= context
        last = jnp.minimum(seen, context - 1)
        append = lambda ring, new: jnp.where(full, jnp.roll(ring, -1, 0), ring).at[last].set(new)
        steps = jax.tree.map(append, steps, step)
        window = sharding.on_one_device(over_window.apply)
        logits_TxA = window(params, *(s[None] for s in steps))[0]
        return (steps, seen + 1), logits_TxA[last]

    sharp = jnp.equal(temperature, 0)
    start, predict = {"fast": (fast_init, fast_logits), "exact": (exact_init, exact_logits)}[mode]

    def act(memory, observation, previous_action, previous_reward, is_first):
        key, inner = memory
        key, key_action = jax.random.split(key)
        inner, out = predict(inner, (observation, previous_action, previous_reward, is_first))
        logits = out[: model.actions.num_logits]
        drawn = model.actions.draw(key_action, logits / jnp.where(sharp, 1, temperature))
        action = jnp.where(sharp, model.actions.best(logits), drawn)
        return (key, inner), action, *([out] if with_output else [])

    return Agent(init=lambda key: (key, start()), act=act)
