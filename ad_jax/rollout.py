"""The interaction of agents and environments, and rollouts: many tasks and episodes in one scan."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ad_jax.actions import Actions
from ad_jax.distributed.sharding import traced_platform
from ad_jax.interfaces import Agent, History

_CACHE = 8 * 2**20  # bytes of CPU cache for each core, shared caches included


@struct.dataclass
class Interaction:
    """The state of an environment, and the observation that the agent acts on next."""

    env_state: Any
    observation: jax.Array
    is_first: jax.Array


def begin(env: Any, key: jax.Array, env_params: Any) -> Interaction:
    """The start of an episode."""
    observation, env_state = env.reset(key, env_params)
    return Interaction(env_state, observation, jnp.ones((), bool))


def interact(
    env: Any, now: Interaction, action: jax.Array, key: jax.Array, env_params: Any
) -> tuple[Interaction, History, dict[str, Any]]:
    """One step of one environment, which resets itself at the end of an episode.

    Returns:
      (the next Interaction, the step as a History without leading axes, the environment's info).
    """
    observation, env_state, reward, terminated, truncated, info = env.step(
        key, now.env_state, action, env_params
    )
    done = terminated | truncated
    history = History(
        observation=now.observation,
        action=action,
        reward=reward.astype(jnp.float32),
        is_first=now.is_first,
        is_last=done,
        is_terminal=terminated,
    )
    return Interaction(env_state, observation, done), history, info


@struct.dataclass
class RolloutState:
    """The state of rollouts. Outside of ``vmap``, all leaves have leading axes [task, rollout]."""

    key: jax.Array
    env_params: Any
    now: Interaction
    memory: Any
    previous_action: jax.Array
    previous_reward: jax.Array


def make_rollouts(
    env: Any, make_agent: Callable[[Any], Agent]
) -> tuple[Callable[..., RolloutState], Callable[..., tuple]]:
    """Rollouts of an agent whose memory lasts across episodes, from an empty context.

    Args:
      env: a gymnax environment.
      make_agent: ``make_agent(env_params) -> Agent``, the agent for a task. An agent that is to
        learn the task must not use ``env_params``.

    Returns:
      ``init(key, task_ids, env_params, num_rollouts) -> state``, where ``task_ids`` is int32
      [task] and ``env_params`` has the same leading axis. A rollout's random draws depend on the
      key, its task and its number, and not on which other tasks run beside it.
      ``advance(state, steps, at_once=None) -> (state, History [task, rollout, time], *extras)``;
      the extras are what the agent returns after its action, with the same leading axes.
      ``at_once`` tasks make all their steps before the next ones begin, see ``tasks_at_once``;
      None takes all at once.
    """

    actions = Actions.of(env)

    def init_one(key, env_params):
        key, key_reset, key_agent = jax.random.split(key, 3)
        return RolloutState(
            key=key,
            env_params=env_params,
            now=begin(env, key_reset, env_params),
            memory=make_agent(env_params).init(key_agent),
            previous_action=jnp.asarray(actions.none),
            previous_reward=jnp.zeros(()),
        )

    def init(key, task_ids, env_params, num_rollouts):
        fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
        keys = jax.vmap(fold, in_axes=(0, None))(fold(key, task_ids), jnp.arange(num_rollouts))
        return jax.vmap(jax.vmap(init_one, in_axes=(0, None)))(keys, env_params)

    def step_one(state: RolloutState):
        now, env_params = state.now, state.env_params
        memory, action, *extras = make_agent(env_params).act(
            state.memory, now.observation, state.previous_action, state.previous_reward,
            now.is_first,
        )  # fmt: skip
        key, key_step = jax.random.split(state.key)
        now, history, _ = interact(env, now, action, key_step, env_params)
        state = RolloutState(key, env_params, now, memory, action.astype(jnp.int32), history.reward)
        return state, (history, *extras)

    def advance(state, steps, at_once=None):
        def task(state):
            step = jax.vmap(step_one)
            state, made = jax.lax.scan(lambda s, _: step(s), state, length=steps)
            return state, *jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), made)

        if at_once is None:
            return jax.vmap(task)(state)
        return jax.lax.map(task, state, batch_size=at_once)

    return init, advance


def tasks_at_once(memory: Any) -> int | None:
    """How many tasks should act at once; None for all of them.

    On a CPU, it is as many as have their agents' memories fit into the cache. A step reads all of
    an agent's memory, and what does not fit is read from RAM at every step. It is at least two,
    because XLA would copy the memory of a single task at every step.

    Args:
      memory: the memory of the agents, each leaf with a leading axis [task].
    """
    leaves = jax.tree.leaves(memory)
    if not leaves or traced_platform() != "cpu":
        return None
    parts = -(-sum(x.size * x.dtype.itemsize for x in leaves) // _CACHE)
    return max(2, -(-len(leaves[0]) // max(1, parts)))


def recording(agent: Agent) -> Agent:
    """The same agent, which also returns what it saw: a dict with the names of a model's inputs."""

    def act(memory, observation, previous_action, previous_reward, is_first):
        memory, action, *extras = agent.act(
            memory, observation, previous_action, previous_reward, is_first
        )
        seen = {
            "observation": observation,
            "previous_action": previous_action,
            "previous_reward": previous_reward,
            "is_first": is_first,
        }
        return memory, action, *extras, seen

    return Agent(agent.init, act)
