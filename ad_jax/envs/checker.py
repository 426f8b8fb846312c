"""Checks an environment for mistakes before anything is trained in it.

For an environment of your own::

    from ad_jax.envs.checker import check_env

    check_env(MyWorld())

Before it starts, a run checks every environment from outside this package in the same way.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import environment

from ad_jax.actions import Actions
from ad_jax.envs import registry, spaces
from ad_jax.envs.binned import binned
from ad_jax.envs.tasks import TaskDistribution, episode_limit
from ad_jax.errors import UserError
from ad_jax.evaluation.agents import random_agent
from ad_jax.rollout import make_rollouts

_TASKS, _ROLLOUTS = 4, 4
_MOST_STEPS = 512  # of each rollout
_PARTS = ("observation", "state", "reward", "terminated", "truncated", "info")


def check_env(env: Any, tasks: TaskDistribution | None = None) -> None:
    """Raises an error if an environment does not follow the interface.

    It checks the spaces, the tasks and what ``reset`` and ``step`` return. It makes random rollouts
    of a few tasks: observations must be finite or, if they are integers, inside their space;
    rewards must be finite, and among ``reward_levels`` if there are any; episodes must end. A step
    must give the same result without ``jit``, under ``jit`` and under ``vmap``.

    Args:
      env: a gymnax environment.
      tasks: the distribution of its tasks; its own if None.

    Raises:
      UserError: something is wrong; the message says what.
    """
    env = binned(env)
    if tasks is None:
        if not callable(getattr(env, "tasks", None)):
            raise UserError(f"{env.name} has no method tasks() that returns a TaskDistribution")
        tasks = env.tasks()
    params = _check_tasks(env, tasks)
    registry.check(env, tasks)
    one = jax.tree.map(lambda x: x[0], params)
    _check_shapes(env, one)
    _check_rollouts(env, params)
    _check_transformations(env, one)


def _check_tasks(env: Any, tasks: TaskDistribution) -> Any:
    """Checks the tasks; returns the EnvParams of a few, as a batch."""
    if not isinstance(tasks, TaskDistribution):
        raise UserError(
            f"{env.name}.tasks() returned {type(tasks).__name__}, not a TaskDistribution"
        )
    number = _TASKS if tasks.num_tasks is None else min(_TASKS, tasks.num_tasks)
    params = tasks.params(np.arange(number, dtype=np.int32))
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if np.shape(leaf)[:1] != (number,):
            raise UserError(
                f"the tasks of {env.name} are not a batch: for {number} ids, the leaf "
                f"{jax.tree_util.keystr(path)} of params(task_ids) has shape {np.shape(leaf)}: "
                "give every leaf a leading axis with one entry for each id"
            )
    return jax.tree.map(jnp.asarray, params)


def _check_shapes(env: Any, params: Any) -> None:
    """Checks the shapes that ``reset`` and ``step`` return, without running them."""
    key = jax.random.key(0)
    begun = jax.eval_shape(env.reset, key, params)
    if not isinstance(begun, tuple) or len(begun) != 2:
        raise UserError(f"{env.name}.reset returned {_said(begun)}: give (observation, state)")
    _check_observation(env, "reset", begun[0])
    _check_step_env(env, begun[1], params)
    made = jax.eval_shape(env.step, key, begun[1], jnp.int32(0), params)
    if not isinstance(made, tuple) or len(made) != len(_PARTS):
        raise UserError(f"{env.name}.step returned {_said(made)}: give ({', '.join(_PARTS)})")
    observation, state, reward, terminated, truncated, info = made
    _check_observation(env, "step", observation)
    if (found := _shapes(state)) != (wanted := _shapes(begun[1])):
        name = sorted(k for k in found.keys() | wanted if found.get(k) != wanted.get(k))[0]
        raise UserError(
            f"{env.name}.step returned a state whose {name or 'value'} is "
            f"{found.get(name, 'missing')}, but reset's is "
            f"{wanted.get(name, 'missing')}: give both the same shape and dtype"
        )
    for name, value in (("reward", reward), ("terminated", terminated), ("truncated", truncated)):
        if jnp.shape(value) != ():
            raise UserError(
                f"{env.name}.step returned a {name} of shape {jnp.shape(value)}: give a scalar"
            )
    for name, value in (("terminated", terminated), ("truncated", truncated)):
        if value.dtype != bool:
            raise UserError(f"{env.name}.step returned {name} of {value.dtype}: give a bool")
    if "final_observation" not in info:
        raise UserError(
            f"{env.name}.step returned no info['final_observation']: keep what gymnax's returns"
        )


def _check_step_env(env: Any, state: Any, params: Any) -> None:
    """Checks what ``step_env`` returns, if ``step`` is gymnax's own, which calls it."""
    if getattr(type(env), "step", None) is not environment.Environment.step:
        return
    made = jax.eval_shape(env.step_env, jax.random.key(0), state, jnp.int32(0), params)
    right = "give (observation, state, reward, terminated, info)"
    if not isinstance(made, tuple) or len(made) != 5:
        raise UserError(f"{env.name}.step_env returned {_said(made)}: {right}")
    if jax.tree.structure(made[1]) != jax.tree.structure(state):
        raise UserError(
            f"{env.name}.step_env returned {_said(made[1])} in place of the state, which has "
            f"type {type(state).__name__} in reset_env: {right}"
        )


def _check_observation(env: Any, method: str, observation: Any) -> None:
    space = env.observation_space(env.default_params)
    found = jax.tree.leaves(observation)
    if len(found) != 1 or found[0].shape != tuple(space.shape):
        raise UserError(
            f"{env.name}.{method} returned an observation of {_said(observation)}, but its space "
            f"has shape {tuple(space.shape)}"
        )
    kind, wanted = found[0].dtype.kind, spaces.observation_dtype(space).kind
    if (kind == "f") != (wanted == "f"):
        raise UserError(
            f"{env.name}.{method} returned an observation of {found[0].dtype}, but its space has "
            f"dtype {np.dtype(space.dtype)}"
        )


def _check_rollouts(env: Any, params: Any) -> None:
    """Checks observations, rewards and episode ends in random rollouts."""
    limit = episode_limit(params, env.name)
    steps = min(limit, _MOST_STEPS)
    number = len(jax.tree.leaves(params)[0])
    init, advance = make_rollouts(env, lambda _: random_agent(Actions.of(env)))

    @jax.jit
    def run(params):
        state = init(jax.random.key(0), jnp.arange(number), params, _ROLLOUTS)
        return advance(state, steps)[1]

    history = jax.device_get(run(params))
    space = env.observation_space(env.default_params)
    seen = history.observation.reshape(-1, *space.shape)
    if seen.dtype.kind == "f":
        if not np.isfinite(seen).all():
            raise UserError(
                f"{env.name} gave observations that are NaN or infinite: fix the environment"
            )
    elif (sizes := spaces.component_sizes(space)) is not None:
        components = seen.reshape(len(seen), -1)
        low = spaces.lowest(space)
        if (outside := ((components < low) | (components >= low + sizes)).any(-1)).any():
            raise UserError(
                f"{env.name} gave observations outside its observation space: "
                f"{seen[outside][0].tolist()}, but components go from {low.tolist()} to "
                f"{(low + sizes - 1).tolist()}"
            )
    if not np.isfinite(history.reward).all():
        raise UserError(f"{env.name} gave rewards that are NaN or infinite: fix the environment")
    levels = getattr(env, "reward_levels", None)
    if levels is not None:
        undeclared = ~np.isin(history.reward, np.array(levels, np.float32))
        if undeclared.any():
            raise UserError(
                f"{env.name} gave rewards that are not in its reward_levels {tuple(levels)}: "
                f"{history.reward[undeclared][0]}"
            )
    if steps == limit and not history.is_last.any(-1).all():
        raise UserError(
            f"an episode of {env.name} did not end within max_steps_in_episode={limit} steps: does "
            "step_env advance the state's time?"
        )


def _check_transformations(env: Any, params: Any) -> None:
    """Checks that a step is the same without ``jit``, under ``jit`` and under ``vmap``."""
    key, action = jax.random.key(1), jnp.asarray(Actions.of(env).none - 1)
    _, state = env.reset(key, params)
    step = lambda key, state: env.step(key, state, action, params)[:5]
    with jax.disable_jit():
        plain = step(key, state)
    made = {
        "without jit": plain,
        "under vmap": jax.tree.map(
            lambda x: x[1],
            jax.vmap(step)(jnp.stack([key, key]), jax.tree.map(lambda x: jnp.stack([x, x]), state)),
        ),
    }
    first = jax.jit(step)(key, state)
    for how, other in made.items():
        for part, a, b in zip(_PARTS, first, other, strict=False):
            equal = lambda x, y: np.allclose(_plain(x), _plain(y), rtol=1e-5, atol=1e-6)
            if not all(jax.tree.leaves(jax.tree.map(equal, a, b))):
                raise UserError(
                    f"{env.name}.step gave a different {part} {how} for the same key, state and "
                    "action: it must be a pure function of them"
                )


def _plain(x: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


def _shapes(tree: Any) -> dict[str, str]:
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype} {list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _said(made: Any) -> str:
    if isinstance(made, tuple | list):
        return f"{len(made)} values"
    shapes = sorted(_shapes(made).values())
    return shapes[0] if len(shapes) == 1 else f"{len(shapes)} arrays"
