"""R-max as a source: an optimistic, tabular, model-based learner that looks for unseen states.

R-max (Brafman and Tennenholtz, 2002) remembers what each action did in each state, assumes that
whatever it has not tried is rewarding, and plans. Here it also assumes that an action moves it in
every state as it last did elsewhere, until it observes otherwise (a relocatable action model:
Leffler et al., 2007). So it looks for unseen states, and need not try every action in every state.

It explores systematically, and each stream learns from its own steps alone, so a history contains
everything that its improvement is due to. With several actors of one learner (PPO, A2C, DQN), a
stream also improves through what the others have found.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ad_jax.actions import Actions
from ad_jax.envs import spaces
from ad_jax.errors import UserError
from ad_jax.interfaces import History, Source
from ad_jax.rollout import Interaction, begin, interact
from ad_jax.sources.actors import by_stream

MAX_STATES = 2**12
_TIE = 1e-4  # ties are broken at random


@dataclasses.dataclass(frozen=True)
class RMaxConfig:
    """Settings of R-max.

    Attributes:
      num_streams: learners per task, each with tables and a history of its own.
      rollout_steps: steps of an update.
      discount: γ.
      optimism: reward per step that an unseen state is assumed to give forever. If it is below the
        largest reward, exploration ends once that reward can be reached.
      sweeps: sweeps of value iteration before each action, starting from the previous values.
    """

    num_streams: int = 32
    rollout_steps: int = 20
    discount: float = 0.9
    optimism: float = 0.5
    sweeps: int = 4

    def __post_init__(self):
        if not self.discount < 1:
            raise UserError(f"discount={self.discount} must be below 1: values would not be finite")


@struct.dataclass
class Tables:
    """What one stream knows about S states with C components each, and about A actions.

    Attributes:
      seen: bool [S], whether a state was ever reached.
      reward: float32 [S], the reward when the state was last reached.
      ends: bool [S], whether the environment terminated when the state was last reached.
      tried: bool [S, A], whether an action was ever tried in a state.
      next_state: int32 [S, A], the state to which the last try led.
      moved: bool [A], whether an action was ever tried in any state.
      effect: int32 [A, C], what the last try of an action added to the components.
      value: float32 [S], state values after the last sweep.
    """

    seen: jax.Array
    reward: jax.Array
    ends: jax.Array
    tried: jax.Array
    next_state: jax.Array
    moved: jax.Array
    effect: jax.Array
    value: jax.Array


@struct.dataclass
class RMaxState:
    """One task's learners between two updates; ``now`` and ``tables`` have an axis [stream]."""

    key: jax.Array
    env_params: Any
    now: Interaction
    tables: Tables


def rmax(env: Any, config: RMaxConfig) -> Source:
    """R-max on one task of ``env``, to be vmapped over tasks and scanned over updates.

    Args:
      env: a gymnax environment with few, discrete states, which are its observations. Its steps
        must be deterministic, and its rewards must depend only on the state that is reached.
      config: see RMaxConfig.

    Returns:
      A Source; an update is History [num_streams, rollout_steps].

    Raises:
      UserError: the observations are not discrete, or there are not 2 to ``MAX_STATES`` of them.
    """
    space = env.observation_space(env.default_params)
    sizes = spaces.component_sizes(space)
    if sizes is None or not 1 < np.prod(sizes.astype(float)) <= MAX_STATES:
        raise UserError(
            f"source.name='rmax' can't be used in {env.name}: its observations are not a table of "
            f"2 to {MAX_STATES} states"
        )
    states = int(np.prod(sizes))
    actions = Actions.of(env).number("source.name='rmax'")
    everywhere_SxC = spaces.from_number(np.arange(states), sizes)
    unknown = config.optimism / (1 - config.discount)
    streams, steps = config.num_streams, config.rollout_steps

    def components(observation: jax.Array) -> jax.Array:
        return observation.reshape(-1) - spaces.lowest(space)

    def init(key: jax.Array, env_params: Any) -> RMaxState:
        key, key_reset = jax.random.split(key)
        reset = jax.vmap(begin, in_axes=(None, 0, None))
        now = reset(env, jax.random.split(key_reset, streams), env_params)
        tables = Tables(
            seen=jnp.zeros(states, bool),
            reward=jnp.zeros(states),
            ends=jnp.zeros(states, bool),
            tried=jnp.zeros((states, actions), bool),
            next_state=jnp.zeros((states, actions), jnp.int32),
            moved=jnp.zeros(actions, bool),
            effect=jnp.zeros((actions, len(sizes)), jnp.int32),
            value=jnp.full(states, unknown),
        )
        repeat = lambda x: jnp.broadcast_to(x, (streams, *x.shape))
        return RMaxState(key, env_params, now, jax.tree.map(repeat, tables))

    def plan(tables: Tables, state: jax.Array) -> tuple[Tables, jax.Array]:
        """The tables with new values, and the value of each action in a state, float32 [A]."""
        moved_SxAxC = jnp.clip(everywhere_SxC[:, None] + tables.effect, 0, sizes - 1)
        next_SxA = jnp.where(tables.tried, tables.next_state, spaces.to_number(moved_SxAxC, sizes))
        guess_SxA = tables.tried | tables.moved

        def reached(value_S):
            later_S = config.discount * jnp.where(tables.ends, 0.0, value_S)
            return jnp.where(tables.seen, tables.reward + later_S, unknown)

        def sweep(value_S, _):
            return jnp.where(guess_SxA, reached(value_S)[next_SxA], unknown).max(-1), None

        value_S, _ = jax.lax.scan(sweep, tables.value, length=config.sweeps)
        value_A = jnp.where(guess_SxA[state], reached(value_S)[next_SxA[state]], unknown)
        return dataclasses.replace(tables, value=value_S), value_A

    def act(now: Interaction, tables: Tables, key: jax.Array, env_params: Any):
        key_tie, key_env = jax.random.split(key)
        here = components(now.observation)
        state = spaces.to_number(here, sizes)
        tables, value_A = plan(tables, state)
        action = jnp.argmax(value_A + _TIE * jax.random.uniform(key_tie, (actions,)))
        then, history, info = interact(env, now, action, key_env, env_params)
        there = components(info["final_observation"])
        reached = spaces.to_number(there, sizes)
        tables = dataclasses.replace(
            tables,
            seen=tables.seen.at[reached].set(True),
            reward=tables.reward.at[reached].set(history.reward),
            ends=tables.ends.at[reached].set(history.is_terminal),
            tried=tables.tried.at[state, action].set(True),
            next_state=tables.next_state.at[state, action].set(reached),
            moved=tables.moved.at[action].set(True),
            effect=tables.effect.at[action].set(there - here),
        )
        return then, tables, history

    def step(state: RMaxState) -> tuple[RMaxState, History]:
        key, key_steps = jax.random.split(state.key)

        def one(carry, keys):
            now, tables, history = jax.vmap(act, in_axes=(0, 0, 0, None))(
                *carry, keys, state.env_params
            )
            return (now, tables), history

        keys = jax.random.split(key_steps, (steps, streams))
        (now, tables), history = jax.lax.scan(one, (state.now, state.tables), keys)
        return RMaxState(key, state.env_params, now, tables), by_stream(history)

    return Source(init=init, step=step, num_streams=streams, steps_per_update=steps)
