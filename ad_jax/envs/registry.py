"""Environments by name."""

from typing import Any

from ad_jax.envs.dark_key_to_door import DarkKeyToDoor
from ad_jax.envs.dark_room import DarkRoom, DarkRoomHard
from ad_jax.envs.tasks import TaskDistribution
from ad_jax.envs.watermaze import PixelWatermaze, Watermaze
from ad_jax.errors import UserError

ENVIRONMENTS = {
    env.__name__: env
    for env in (
        DarkRoom,
        DarkRoomHard,
        DarkKeyToDoor,
        Watermaze,
        PixelWatermaze,
    )
}


def register(name: str, factory: Any) -> None:
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


def make(name: str, **kwargs: Any) -> tuple[Any, TaskDistribution]:
    """Returns a gymnax environment and the distribution of its tasks.

    Raises:
      UserError: no environment has this name, or it refuses an argument.
    """
    if name not in ENVIRONMENTS:
        raise UserError(
            f"env.name={name!r} is not an environment: choose one of {sorted(ENVIRONMENTS)}"
        )
    try:
        env = ENVIRONMENTS[name](**kwargs)
    except (TypeError, ValueError) as error:
        raise UserError(f"env.kwargs do not suit {name}: {error}") from error
    return env, env.tasks()
