"""Systematic search as a source: a learner that remembers where it has been, and what paid.

It goes from place to place, always to a near one that it has not visited, until one pays. From then
on, it goes there in every episode. It knows the dynamics, but nothing about the task. As in R-max,
each stream learns from its own steps alone, so a history contains everything that its improvement
is due to.
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
      key: for its random draws.
      been: bool [places], the places visited; all False again once it has been everywhere.
      target: int32, the place that it is going to; -1 at first.
      position: float32 [2], the last observed position.
      moved: float32 [2], the last observed step, which led there; 0 at the start of an episode.
      found: bool, whether anything ever paid.
      paid: float32 [2], the last position that paid.
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
      env: a gymnax environment in a plane, with these attributes: ``places()``, float32
        [places, 2], which cover everything that may pay; ``reach``, the distance from a place that
        counts as being there; ``position(observation)``, float32 [2]; and
        ``action_towards(observation, position)``, int32.
      config: see SearchConfig.

    Returns:
      A Source; an update is History [num_streams, rollout_steps].

    Raises:
      UserError: the environment has no places.
    """
    if not hasattr(env, "places"):
        raise UserError(
            f"source.name='search' can't be used in {env.name}: it has no places to search"
        )
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
        # At the first step of an episode, what may have paid is the last position of the previous
        # episode, which was never observed: it is extrapolated.
        pays = previous_reward > 0
        here = jnp.where(is_first, memory.position + memory.moved, position)
        been = memory.been | (distance(places, position) <= env.reach)
        been = jnp.where(been.all(), False, been)

        arrived = (memory.target < 0) | been[memory.target] | is_first
        # Random, up to the distance between neighbours, so that streams take different routes.
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
