"""Environments by name."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import gymnax
import numpy as np
from gymnax.environments import spaces

from ad_jax import registries
from ad_jax.actions import Actions
from ad_jax.envs.adversarial_bandit import AdversarialBandit
from ad_jax.envs.binned import binned
from ad_jax.envs.dark_key_to_door import DarkKeyToDoor
from ad_jax.envs.dark_room import DarkRoom, DarkRoomHard
from ad_jax.envs.linear_bandit import LinearBandit
from ad_jax.envs.point_robot import PointRobot
from ad_jax.envs.random_mdp import RandomMDP
from ad_jax.envs.tasks import TaskDistribution, episode_limit
from ad_jax.envs.variants import Variants
from ad_jax.envs.watermaze import PixelWatermaze, PoseWatermaze, Watermaze
from ad_jax.envs.xland import XLand
from ad_jax.errors import UserError

ENVIRONMENTS = {
    env.__name__: env
    for env in (
        AdversarialBandit,
        DarkRoom,
        DarkRoomHard,
        DarkKeyToDoor,
        LinearBandit,
        PointRobot,
        RandomMDP,
        Watermaze,
        PoseWatermaze,
        PixelWatermaze,
        XLand,
    )
}


def factory(name: str) -> Callable[..., Any]:
    """The class or function that makes the environment of a name.

    Args:
      name: the name of an environment of this package, an id of gymnax, or "module:name" for a
        user's own: the class of a gymnax environment, or a function that returns one.

    Raises:
      UserError: there is no such environment.
    """
    if name in gymnax.registered_envs:
        return functools.partial(Variants, name)
    if name not in ENVIRONMENTS and ":" not in name:
        raise UserError(
            f"env.name={name!r} is not an environment: choose one of {sorted(ENVIRONMENTS)}, an id "
            "of gymnax, or 'module:name' of your own"
        )
    return registries.find("env.name", name, ENVIRONMENTS, "a class or a function", callable)


def arguments(name: str) -> dict[str, Any]:
    """The default of each argument of an environment that has one; {} for ids of gymnax."""
    if name in gymnax.registered_envs:
        return {}
    parameters = inspect.signature(factory(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def make(
    name: str, tasks: Callable[[Any], TaskDistribution] | None = None, **kwargs: Any
) -> tuple[Any, TaskDistribution]:
    """Returns a gymnax environment and the distribution of its tasks.

    Args:
      name: see ``factory``.
      tasks: ``tasks(env)`` returns a distribution to use instead of the environment's own. For an
        id of gymnax, ``env`` is then gymnax's environment itself instead of ``variants.Variants``.
      **kwargs: arguments of the environment.

    Raises:
      UserError: no environment has this name, it refuses an argument, has no tasks, or is refused
        by ``check``.
    """
    if tasks is not None and name in gymnax.registered_envs:
        make_env = lambda **kwargs: gymnax.make(name, **kwargs)[0]
    else:
        make_env = factory(name)
    try:
        env = make_env(**kwargs)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"env.kwargs are not valid for {name}: {error}") from error
    env = binned(env)
    if tasks is None and not callable(getattr(env, "tasks", None)):
        raise UserError(
            f"{name} has no distribution of tasks: give env.tasks='module:function', a function "
            "that takes the environment and returns a TaskDistribution"
        )
    distribution = env.tasks() if tasks is None else tasks(env)
    if not isinstance(distribution, TaskDistribution):
        raise UserError(
            f"the tasks of {name} are of type {type(distribution).__name__}: give a "
            "TaskDistribution"
        )
    check(env, distribution)
    return env, distribution


def check(env: Any, tasks: TaskDistribution) -> None:
    """Checks that an environment can be used here.

    Args:
      env: a gymnax environment.
      tasks: the distribution of its tasks; only the first task is checked.

    Raises:
      UserError: the observations are not a single array, the actions are of an unsupported space,
        or episodes have no limit on their steps.
    """
    seen = env.observation_space(env.default_params)
    if not isinstance(seen, spaces.Discrete | spaces.Box):
        raise UserError(
            f"{env.name} has observations of space {type(seen).__name__}: only Discrete and Box "
            "can be stored and read, so wrap it to return one array"
        )
    Actions.of(env)
    episode_limit(tasks.params(np.zeros(1, np.int32)), env.name)
