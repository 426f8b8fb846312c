"""The interfaces between the parts of the system: History, Source and Agent.

The fourth, Environment, is gymnax's own: a task is a value of ``EnvParams``, and a batch of tasks
is a batched ``EnvParams`` under ``jax.vmap``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax


@chex.dataclass(frozen=True)
class History:
    """Transitions in the order in which they were made, with the field names of RLDS.

    The axes are a prefix of [task, stream, time]. Step t holds the observation *before* the
    action, the action, and what the action led to; an episode of n steps is n entries.

    Attributes:
      observation: what the environment showed, int32 or float32 [..., time, *observation_shape].
      action: int32 [..., time].
      reward: float32 [..., time], the reward that followed the action.
      is_first: bool [..., time], the first step of an episode.
      is_last: bool [..., time], the episode ended with this step, for whatever reason.
      is_terminal: bool [..., time], it ended because the environment did, not the time limit.
    """

    observation: jax.Array
    action: jax.Array
    reward: jax.Array
    is_first: jax.Array
    is_last: jax.Array
    is_terminal: jax.Array


class Source(NamedTuple):
    """A learner whose history is distilled, as a pair of pure functions for one task.

    Attributes:
      init: ``init(key, env_params) -> state``.
      step: ``step(state) -> (state, block)``; ``block`` is a History with axes [stream, time].
      num_streams: streams (actors) per task.
      steps_per_block: length of the time axis of a block.
    """

    init: Callable[[jax.Array, Any], Any]
    step: Callable[[Any], tuple[Any, History]]
    num_streams: int
    steps_per_block: int


class Agent(NamedTuple):
    """Whatever acts in context, as a pair of pure functions for one environment.

    The memory outlives episodes: it is what the agent learns with. It also carries the agent's
    random key, so that ``act`` is a pure function.

    Attributes:
      init: ``init(key) -> memory``.
      act: ``act(memory, observation, previous_action, previous_reward, is_first) -> (memory,
        action)``. At the very first step ``previous_action`` is the number of actions (which is
        no action) and ``previous_reward`` is 0.
    """

    init: Callable[[jax.Array], Any]
    act: Callable[[Any, jax.Array, jax.Array, jax.Array, jax.Array], tuple[Any, jax.Array]]
