"""Environments by name."""

from collections.abc import Callable
from typing import Any

import gymnax
import numpy as np
from gymnax.environments import spaces

from ad_jax.envs.adversarial_bandit import AdversarialBandit
from ad_jax.envs.dark_key_to_door import DarkKeyToDoor
from ad_jax.envs.dark_room import DarkRoom, DarkRoomHard
from ad_jax.envs.tasks import TaskDistribution, episode_limit
from ad_jax.envs.watermaze import PixelWatermaze, Watermaze
from ad_jax.errors import UserError

ENVIRONMENTS = {
    env.__name__: env
    for env in (
        AdversarialBandit,
        DarkRoom,
        DarkRoomHard,
        DarkKeyToDoor,
        Watermaze,
        PixelWatermaze,
    )
}


def register(name: str, factory: Callable[..., Any]) -> None:
    """Adds an environment from outside.

    Args:
      name: what configs call it.
      factory: ``factory(**kwargs)`` returns a gymnax environment with a method ``tasks()`` that
        returns its ``TaskDistribution``.

    Raises:
      ValueError: the name is taken.
    """
    if name in ENVIRONMENTS:
        raise ValueError(f"an environment called {name} is already registered")
    ENVIRONMENTS[name] = factory


def make(
    name: str, tasks: Callable[[Any], TaskDistribution] | None = None, **kwargs: Any
) -> tuple[Any, TaskDistribution]:
    """Returns a gymnax environment and the distribution of its tasks.

    Args:
      name: of an environment here, or an id that gymnax knows.
      tasks: ``tasks(env)``, the distribution; a gymnax id needs it, the others have their own.
      **kwargs: of the environment.

    Raises:
      UserError: no environment has this name, it refuses an argument, has no tasks, or is refused
        by ``check``.
    """
    if name not in ENVIRONMENTS and name not in gymnax.registered_envs:
        raise UserError(
            f"env.name={name!r} is not an environment: choose one of {sorted(ENVIRONMENTS)}, or "
            "an id of gymnax"
        )
    try:
        env = (
            ENVIRONMENTS[name](**kwargs) if name in ENVIRONMENTS else gymnax.make(name, **kwargs)[0]
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"env.kwargs do not suit {name}: {error}") from error
    if tasks is None and not hasattr(env, "tasks"):
        raise UserError(
            f"{name} has no distribution of tasks: give env.tasks='module:function', a function "
            "from the environment to a TaskDistribution"
        )
    distribution = env.tasks() if tasks is None else tasks(env)
    check(env, distribution)
    return env, distribution


def check(env: Any, tasks: TaskDistribution) -> None:
    """Refuses environments that nothing here can act in.

    Args:
      env: a gymnax environment.
      tasks: the distribution of its tasks, of which the first is looked at.

    Raises:
      UserError: the observations are not one array, the actions are not discrete, or episodes have
        no limit of steps.
    """
    seen = env.observation_space(env.default_params)
    if not isinstance(seen, spaces.Discrete | spaces.Box):
        raise UserError(
            f"{env.name} has observations of space {type(seen).__name__}: only Discrete and Box "
            "can be stored and read, so wrap it to return one array"
        )
    actions = env.action_space(env.default_params)
    if not isinstance(actions, spaces.Discrete):
        raise UserError(
            f"{env.name} has actions of space {type(actions).__name__}: only discrete actions can "
            "be distilled"
        )
    episode_limit(tasks.params(np.zeros(1, np.int32)), env.name)
