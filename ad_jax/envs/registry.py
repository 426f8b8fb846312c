"""Environments by name."""

from collections.abc import Callable
from typing import Any

import gymnax

from ad_jax.envs.adversarial_bandit import AdversarialBandit
from ad_jax.envs.dark_key_to_door import DarkKeyToDoor
from ad_jax.envs.dark_room import DarkRoom, DarkRoomHard
from ad_jax.envs.tasks import TaskDistribution
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
      UserError: no environment has this name, it refuses an argument, or has no tasks.
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
    return env, env.tasks() if tasks is None else tasks(env)
