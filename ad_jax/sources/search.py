"""Systematic search as a source: a learner that remembers where it has been, and what paid.

It goes from place to place, the nearest first that it has not been to, until one pays; from then on
it goes there in every episode. It knows how the world moves, and nothing of the task. As in R-max
each stream learns from its own steps alone, so a history holds all that its improvement is due to.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ad_jax.errors import UserError
from ad_jax.interfaces import Agent, Source
from ad_jax.sources.scripted import agent_source


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """Settings of the search.

    Attributes:
      num_streams: learners per task, each with a memory and a history of its own.
      rollout_steps: steps of an update.
    """

    num_streams: int = 8
    rollout_steps: int = 50


@struct.dataclass
class Memory:
    """What one stream knows.

    Attributes:
      key: of its draws.
      been: bool [places], since it has last been everywhere.
      target: int32, the place that it is on its way to.
      position: float32 [2], where it was last seen,
      moved: float32 [2], and how it got there from where it was before.
      found: bool, whether anything ever paid,
      paid: float32 [2], and where.
    """

    key: jax.Array
    been: jax.Array
    target: jax.Array
    position: jax.Array
    moved: jax.Array
    found: jax.Array
    paid: jax.Array


def search(env: Any, config: SearchConfig) -> Source:
    """Search on one task of ``env``, to be vmapped over tasks and scanned over updates.

    Args:
      env: a gymnax environment in a plane, with ``places()``, float32 [places, 2], which cover all
        that may pay, and ``reach``, how near to one counts as being there;
        ``position(observation)``, float32 [2]; and ``action_towards(observation, position)``.
      config: see SearchConfig.

    Returns:
      A Source; an update is History [num_streams, rollout_steps].

    Raises:
      UserError: the environment has no places.
    """
    if not hasattr(env, "places"):
        raise UserError(f"source.name='search' does not suit {env.name}: it has no places to go to")
    agent = searcher(env)
    return agent_source(env, lambda _: agent, config.num_streams, config.rollout_steps)


def searcher(env: Any) -> Agent:
    """The learner of one stream."""
    places = jnp.asarray(env.places())
    distance = lambda a, b: jnp.linalg.norm(a - b, axis=-1)

    def init(key: jax.Array) -> Memory:
        nowhere = jnp.zeros(2)
        been = jnp.zeros(len(places), bool)
        return Memory(key, been, jnp.int32(-1), nowhere, nowhere, jnp.bool_(False), nowhere)

    def act(memory, observation, previous_action, previous_reward, is_first):
        del previous_action
        key, key_target = jax.random.split(memory.key)
        position = env.position(observation)
        # At the first step of an episode what has just paid is where the last one ended, unseen.
        pays = previous_reward > 0
        here = jnp.where(is_first, memory.position + memory.moved, position)
        been = memory.been | (distance(places, position) <= env.reach)
        been = jnp.where(been.all(), False, been)

        arrived = (memory.target < 0) | been[memory.target] | is_first
        # Up to the distance between neighbours, so that the ways of streams differ.
        far = 2 * env.reach * jax.random.uniform(key_target, (len(places),))
        nearest = jnp.argmin(jnp.where(been, jnp.inf, distance(places, position) + far))
        memory = Memory(
            key=key,
            been=been,
            target=jnp.where(arrived, nearest, memory.target).astype(jnp.int32),
            position=position,
            moved=jnp.where(is_first, 0.0, position - memory.position),
            found=memory.found | pays,
            paid=jnp.where(pays, here, memory.paid),
        )
        towards = jnp.where(memory.found, memory.paid, places[memory.target])
        return memory, env.action_towards(observation, towards)

    return Agent(init, act)
