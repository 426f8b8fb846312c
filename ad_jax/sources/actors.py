"""The actors of a source. They act in the environment, and their steps are the histories."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from ad_jax.actions import Actions
from ad_jax.envs import spaces
from ad_jax.errors import UserError
from ad_jax.interfaces import History
from ad_jax.rollout import Interaction, begin, interact
from ad_jax.sources import scaling


@struct.dataclass
class ActorState:
    """The state of the actors of one task; ``now`` has a leading axis [stream].

    ``scale`` is a scaling.Scale where the learner is shown standardised numbers, else None.
    """

    env_params: Any
    now: Interaction
    scale: Any = None


@struct.dataclass
class Rollout:
    """The result of a rollout; every field is [time, stream, ...].

    Attributes:
      history: what is stored.
      reward: the rewards that the learner gets: the environment's own, or scaled ones.
      seen: what the learner saw before each action.
      next_seen: what the learner would see after the action, before any reset.
      extras: what ``select_action`` returned along with each action.
    """

    history: History
    reward: jax.Array
    seen: jax.Array
    next_seen: jax.Array
    extras: Any


class Actors(NamedTuple):
    """Parallel actors on one task.

    Attributes:
      space: space of what the learner sees.
      reset: ``reset(key, env_params) -> ActorState``.
      seen: ``seen(state)``, what the learner sees now, [stream, ...].
      rollout: ``rollout(state, key, select_action, draws) -> (state, Rollout)``. It makes one step
        for each entry of ``draws``, a tree of random arrays [time, ...];
        ``select_action(seen, draws[t]) -> (action, extras)``.
    """

    space: Any
    reset: Callable[..., ActorState]
    seen: Callable[[ActorState], jax.Array]
    rollout: Callable[..., tuple[ActorState, Rollout]]


def make_actors(
    env: Any,
    num_streams: int,
    privileged: bool,
    draws_pictures: bool = False,
    scaled_by: float | None = None,
) -> Actors:
    """Actors in a gymnax environment.

    Args:
      env: a gymnax environment; for its actions see ``Actions.of``.
      num_streams: the number of actors; each makes one learning history.
      privileged: the learner sees the environment's ``privileged_observation``; the history still
        holds the ordinary observation.
      draws_pictures: the learner calls the environment's ``render_observation`` itself.
      scaled_by: if given, the learner gets standardised float observations, and rewards divided by
        the deviation of the returns with this discount; see ``scaling``. None leaves both as they
        are.

    Raises:
      UserError: ``privileged`` is set but the environment has no ``privileged_observation``, or
        the environment is meant to be seen in pictures that the learner does not draw.
    """
    if privileged and not hasattr(env, "privileged_observation"):
        raise UserError(f"privileged=True: {env.name} has no privileged_observation")
    if not privileged and not draws_pictures and hasattr(env, "render_observation"):
        raise UserError(
            f"{env.name} is observed through pictures, which this source does not render: set its "
            "privileged=True, or source.name='dqn'"
        )
    space = env.observation_space(env.default_params)
    if privileged:
        space = env.privileged_observation_space(env.default_params)
    next_seen = "privileged_observation" if privileged else "final_observation"
    begin_all = jax.vmap(partial(begin, env), in_axes=(0, None))
    interact_all = jax.vmap(partial(interact, env), in_axes=(0, 0, 0, None))

    def reset(key: jax.Array, env_params: Any) -> ActorState:
        now = begin_all(jax.random.split(key, num_streams), env_params)
        scale = None if scaled_by is None else scaling.unknown(space.shape, num_streams)
        return ActorState(env_params, now, scale)

    def raw(state: ActorState) -> jax.Array:
        if not privileged:
            return state.now.observation
        show = jax.vmap(env.privileged_observation, in_axes=(0, None))
        return show(state.now.env_state, state.env_params)

    def shown(state: ActorState, values: jax.Array) -> jax.Array:
        if scaled_by is None or spaces.kind(space) != "continuous":
            return values
        return scaling.standardised(state.scale.seen, values)

    def seen(state: ActorState) -> jax.Array:
        return shown(state, raw(state))

    def rollout(state: ActorState, key: jax.Array, select_action: Callable, draws: Any):
        steps = jax.tree.leaves(draws)[0].shape[0]
        keys = jax.random.split(key, (steps, num_streams))

        def act(state: ActorState, draws_and_keys: Any):
            draws, keys = draws_and_keys
            before = raw(state)
            action, extras = select_action(shown(state, before), draws)
            now, history, info = interact_all(state.now, action, keys, state.env_params)
            state = ActorState(state.env_params, now, state.scale)
            return state, (history, before, info[next_seen], extras)

        after, (h, before, then, extras) = jax.lax.scan(act, state, (draws, keys))
        if scaled_by is None:
            return after, Rollout(h, h.reward, before, then, extras)
        scale = scaling.measured(state.scale, before, h.reward, h.is_last, scaled_by)
        reward = h.reward / scaling.deviation(scale.returns)
        made = Rollout(h, reward, shown(state, before), shown(state, then), extras)
        return ActorState(after.env_params, after.now, scale), made

    return Actors(space, reset, seen, rollout)


def by_stream(history: History) -> History:
    """A history [time, stream, ...] as [stream, time, ...]."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), history)


def sampled(
    policy: Callable[[jax.Array], tuple[jax.Array, jax.Array]], actions: Actions
) -> Callable:
    """Samples actions from a policy: a ``select_action`` for ``Actors.rollout``.

    Args:
      policy: ``policy(seen) -> (logits [..., num_logits], value [...])``.
      actions: what an action is made of.

    Returns:
      ``select_action(seen, draws) -> (action, (logits, value))``. ``draws`` [..., num_logits]
      come from a Gumbel distribution.
    """

    def select_action(seen: jax.Array, draws: jax.Array):
        logits, value = policy(seen)
        return actions.best(logits + draws), (logits, value)

    return select_action
