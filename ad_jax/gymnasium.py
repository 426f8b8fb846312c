"""Our environments as Gymnasium environments, and learners that act in any Gymnasium environment.

Importing this module registers ``ad_jax/DarkRoom-v0`` and the like, for ``gymnasium.make`` and
``gymnasium.make_vec``. The task stays the same from episode to episode, so that it can be learnt in
context. It is the argument ``task``, or drawn at the first reset with its seed. ``info["task"]`` is
its id, and ``reset(options={"task": id})`` changes it.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import gymnasium
import jax
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnax.environments import spaces as gymnax_spaces

from ad_jax.envs import registry
from ad_jax.envs.binned import Binned
from ad_jax.envs.grid_world import GridWorld
from ad_jax.envs.spaces import observation_dtype
from ad_jax.envs.tasks import MAX_TASK_ID, TaskDistribution
from ad_jax.errors import UserError
from ad_jax.learner import Learner

_CELL = 16  # pixels along a side, in pictures of a room


def make(name: str, **kwargs: Any) -> gymnasium.Env:
    """``gymnasium.make("ad_jax/NAME-v0", **kwargs)``; see ``TaskEnv`` for the arguments."""
    return gymnasium.make(_id(name), **kwargs)


def make_vec(name: str, num_envs: int, **kwargs: Any) -> gymnasium.vector.VectorEnv:
    """``gymnasium.make_vec("ad_jax/NAME-v0", …)``; see ``TaskVectorEnv`` for the arguments."""
    mode = gymnasium.VectorizeMode.VECTOR_ENTRY_POINT
    return gymnasium.make_vec(_id(name), num_envs, vectorization_mode=mode, **kwargs)


class _World:
    """An environment of ours and its tasks, with the spaces of Gymnasium."""

    def __init__(
        self, name: str, tasks: Callable[[Any], TaskDistribution] | None, kwargs: dict[str, Any]
    ):
        self.env, self.tasks = registry.make(name, tasks, **kwargs)
        if isinstance(self.env, Binned):  # Gymnasium gets the continuous actions
            self.env = self.env.inner
        params = self.env.default_params
        self.observation_space = _space(self.env.observation_space(params))
        self.action_space = _space(self.env.action_space(params))
        self.dtype = observation_dtype(self.env.observation_space(params))
        discrete = isinstance(self.action_space, spaces.Discrete)
        self.action_dtype = np.dtype(np.int32 if discrete else self.action_space.dtype)

    def params(self, ids: np.ndarray) -> Any:
        """EnvParams of tasks, with a leading axis; raises a UserError if there is no such task."""
        total = MAX_TASK_ID if self.tasks.num_tasks is None else self.tasks.num_tasks
        if ids.dtype.kind not in "iu" or ((ids < 0) | (ids >= total)).any():
            raise UserError(f"task={ids.tolist()}: {self.env.name} has tasks 0 to {total - 1}")
        return self.tasks.params(ids.astype(np.int32))

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Ids of random tasks."""
        return rng.integers(self.tasks.num_tasks or MAX_TASK_ID, size=count, dtype=np.int32)


class _Kept:
    """The tasks of parallel environments, which stay the same from episode to episode.

    Attributes:
      ids: int [env]; None before the first reset, unless they were given.
      params: EnvParams with a leading axis [env].
    """

    def __init__(self, world: _World, count: int, task: Any):
        self._world, self._count, self._given = world, count, False
        self.ids: np.ndarray | None = None
        if task is not None:
            self._take(task)

    def _take(self, task: Any) -> None:
        ids = np.asarray(task)
        if ids.shape not in ((), (1,), (self._count,)):
            raise UserError(f"task has shape {ids.shape}: give one id, or {self._count}")
        self.ids, self._given = np.broadcast_to(ids, (self._count,)), True
        self.params = self._world.params(self.ids)

    def at_reset(
        self, seed: int | None, options: dict[str, Any] | None, rng: np.random.Generator
    ) -> None:
        """Takes the tasks of the options, or draws some where none were given."""
        if options and "task" in options:
            self._take(options["task"])
        elif self.ids is None or (seed is not None and not self._given):
            self.ids = self._world.draw(rng, self._count)
            self.params = self._world.params(self.ids)


class TaskEnv(gymnasium.Env):
    """One task of a world of ours.

    Args:
      name: of the environment, or an id that gymnax knows.
      task: the id of the task; None draws one at the first reset, and at every reset with a seed.
      tasks: ``tasks(env)`` returns a distribution of tasks; see ``envs.registry.make``.
      render_mode: "rgb_array" for a picture of a dark room, or None.
      **kwargs: of the environment.

    Raises:
      UserError: there is no such environment or task.
    """

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        name: str,
        task: int | None = None,
        tasks: Callable[[Any], TaskDistribution] | None = None,
        render_mode: str | None = None,
        **kwargs: Any,
    ):
        self._world = _World(name, tasks, kwargs)
        env = self._world.env
        if render_mode is not None and not isinstance(env, GridWorld):
            raise UserError(
                f"render_mode={render_mode!r}: only dark rooms have pictures: give None"
            )
        self.observation_space = self._world.observation_space
        self.action_space = self._world.action_space
        if not isinstance(env, GridWorld):
            self.metadata = {**self.metadata, "render_modes": []}
        self.render_mode = render_mode
        self._kept = _Kept(self._world, 1, task)
        self._key = jax.random.key(0)
        self._state = None

        def step(key, state, action, params):
            key, key_step = jax.random.split(key)
            observation, state, reward, terminated, _ = env.step_env(
                key_step, state, action, params
            )
            return key, state, (observation, reward, terminated, env.is_truncated(state, params))

        def reset(key, params):
            key, key_reset = jax.random.split(key)
            observation, state = env.reset_env(key_reset, params)
            return key, state, observation

        self._compiled_step, self._compiled_reset = jax.jit(step), jax.jit(reset)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Starts an episode; ``options={"task": id}`` changes the task."""
        super().reset(seed=seed)
        if seed is not None:
            self._key = jax.random.key(seed)
        self._kept.at_reset(seed, options, self.np_random)
        self._task = int(self._kept.ids[0])
        self._params = jax.tree.map(lambda x: x[0], self._kept.params)
        self._key, self._state, observation = self._compiled_reset(self._key, self._params)
        return self._observed(observation), {"task": self._task}

    def step(self, action: Any):
        """One step; after the end of an episode, ``reset`` must be called."""
        if self._state is None:
            raise UserError("call reset before step")
        if not self.action_space.contains(action):
            raise UserError(f"action={action!r}: give one of {self.action_space}")
        self._key, self._state, made = self._compiled_step(
            self._key, self._state, np.asarray(action, self._world.action_dtype), self._params
        )
        observation, reward, terminated, truncated = made
        info = {"task": self._task}
        return self._observed(observation), float(reward), bool(terminated), bool(truncated), info

    def render(self) -> np.ndarray | None:
        """The room, goals in green, the agent in orange: uint8 [height, width, 3]; may be None."""
        if self.render_mode is None or self._state is None:
            return None
        size = self._world.env.size
        cells = np.full((size, size, 3), 235, np.uint8)
        for value in vars(self._params).values():
            if np.shape(value) == (2,):
                cells[tuple(np.asarray(value)[::-1])] = (0, 158, 115)
        cells[tuple(np.asarray(self._state.position)[::-1])] = (213, 94, 0)
        return np.kron(cells, np.ones((_CELL, _CELL, 1), np.uint8))

    def _observed(self, observation: Any) -> Any:
        return _as_space(observation, self._world)


class TaskVectorEnv(gymnasium.vector.VectorEnv):
    """Many tasks of a world of ours at once, in one compiled program.

    An environment whose episode ends is reset in the same step (``AutoresetMode.SAME_STEP``):
    ``info["final_obs"]`` then holds its last observation, where ``info["_final_obs"]`` is True.

    Args:
      name: of the environment, or an id that gymnax knows.
      num_envs: number of parallel environments.
      task: ids of their tasks, one for all or one for each; None draws one for each, as for
        ``TaskEnv``.
      tasks: ``tasks(env)`` returns a distribution of tasks; see ``envs.registry.make``.
      **kwargs: of the environment.

    Raises:
      UserError: there is no such environment or task.
    """

    metadata: ClassVar = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self,
        name: str,
        num_envs: int = 1,
        task: int | Sequence[int] | None = None,
        tasks: Callable[[Any], TaskDistribution] | None = None,
        **kwargs: Any,
    ):
        self._world = _World(name, tasks, kwargs)
        self.num_envs = num_envs
        self.single_observation_space = self._world.observation_space
        self.single_action_space = self._world.action_space
        batch = gymnasium.vector.utils.batch_space
        self.observation_space = batch(self.single_observation_space, num_envs)
        self.action_space = batch(self.single_action_space, num_envs)
        self._kept = _Kept(self._world, num_envs, task)
        self._key = jax.random.key(0)
        self._state = None
        env = self._world.env

        def step(key, state, action, params):
            key, key_step = jax.random.split(key)
            keys = jax.random.split(key_step, num_envs)
            observation, state, reward, terminated, truncated, info = jax.vmap(env.step)(
                keys, state, action, params
            )
            final = info["final_observation"]
            return key, state, (observation, reward, terminated, truncated, final)

        def reset(key, params):
            key, key_reset = jax.random.split(key)
            observation, state = jax.vmap(env.reset)(jax.random.split(key_reset, num_envs), params)
            return key, state, observation

        self._compiled_step, self._compiled_reset = jax.jit(step), jax.jit(reset)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Starts an episode everywhere; ``options={"task": ids}`` changes the tasks."""
        super().reset(seed=seed)
        if seed is not None:
            self._key = jax.random.key(seed)
        self._kept.at_reset(seed, options, self.np_random)
        self._key, self._state, observation = self._compiled_reset(self._key, self._kept.params)
        return _as_space(observation, self._world), {"task": self._kept.ids.copy()}

    def step(self, actions: Any):
        """One step everywhere."""
        if self._state is None:
            raise UserError("call reset before step")
        given = np.asarray(actions)
        dtype = self._world.action_dtype
        fits = given.dtype.kind in ("iuf" if dtype.kind == "f" else "iu")
        if not fits or not self.action_space.contains(given.astype(self.action_space.dtype)):
            raise UserError(
                f"actions={given.tolist()}: give {self.num_envs} of {self.action_space}"
            )
        self._key, self._state, made = self._compiled_step(
            self._key, self._state, given.astype(dtype), self._kept.params
        )
        observation, reward, terminated, truncated, final = made
        ended = np.asarray(terminated) | np.asarray(truncated)
        info: dict[str, Any] = {"task": self._kept.ids.copy()}
        if ended.any():
            info |= {"final_obs": _as_space(final, self._world), "_final_obs": ended}
        return (
            _as_space(observation, self._world),
            np.asarray(reward, np.float64),
            np.array(terminated),
            np.array(truncated),
            info,
        )


def evaluate(
    learner: Learner,
    envs: gymnasium.Env | gymnasium.vector.VectorEnv | Sequence[gymnasium.Env],
    episodes: int = 20,
    seed: int = 0,
) -> np.ndarray:
    """Lets a learner act in Gymnasium environments, starting in each from an empty context.

    Args:
      learner: a learner with the same observations and actions as the environments.
      envs: one environment, several, or a vector environment with ``AutoresetMode.SAME_STEP``. The
        task of each must stay the same from episode to episode.
      episodes: to be played in each.
      seed: of the learner's draws, and of the environments' first reset (the i-th of several gets
        ``seed + i``).

    Returns:
      Returns of the episodes, float64 [env, episode].

    Raises:
      UserError: the spaces differ, or a vector environment has another autoreset mode.
    """
    vector = isinstance(envs, gymnasium.vector.VectorEnv)
    stepped: Any = envs if vector else _Several([envs] if isinstance(envs, gymnasium.Env) else envs)
    if vector and envs.metadata.get("autoreset_mode") != AutoresetMode.SAME_STEP:
        raise UserError(
            "a vector environment must reset in the same step: create it with "
            "vector_kwargs={'autoreset_mode': AutoresetMode.SAME_STEP}"
        )
    _check_spaces(learner, stepped.single_observation_space, stepped.single_action_space)
    count = stepped.num_envs
    returns = np.zeros((count, episodes))
    number, reward, done = np.zeros(count, int), np.zeros(count), np.ones(count, bool)
    state = learner.reset(seed, batch=count)
    observation, _ = stepped.reset(seed=seed)
    first = int(getattr(stepped.single_action_space, "start", 0))
    while (number < episodes).any():
        action, state = learner.act(state, observation, reward, done)
        taken = action + first if learner.model.actions.scalar else learner.env.continuous(action)
        observation, reward, terminated, truncated, _ = stepped.step(taken)
        counted = np.flatnonzero(number < episodes)
        returns[counted, number[counted]] += reward[counted]
        done = terminated | truncated
        number += done
    return returns


class _Several:
    """Environments side by side, each reset in the step in which its episode ends."""

    def __init__(self, envs: Sequence[gymnasium.Env]):
        if not envs:
            raise UserError("envs is empty: give at least one environment")
        self.envs, self.num_envs = envs, len(envs)
        self.single_observation_space = envs[0].observation_space
        self.single_action_space = envs[0].action_space

    def reset(self, seed: int) -> tuple[np.ndarray, dict]:
        return np.stack([env.reset(seed=seed + i)[0] for i, env in enumerate(self.envs)]), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, ...]:
        rows = []
        for env, chosen in zip(self.envs, action, strict=True):
            observation, reward, terminated, truncated, _ = env.step(chosen)
            if terminated or truncated:
                observation, _ = env.reset()
            rows.append((observation, reward, terminated, truncated))
        observation, reward, terminated, truncated = map(np.array, zip(*rows, strict=True))
        return observation, reward, terminated, truncated, np.array({})


def _check_spaces(learner: Learner, observation: spaces.Space, action: spaces.Space) -> None:
    wanted = learner.model.space
    if observation.shape != tuple(wanted.shape):
        raise UserError(
            f"observations have shape {observation.shape}: the learner reads {wanted.shape}"
        )
    actions = learner.model.actions
    if actions.scalar:
        fits = getattr(action, "n", None) == actions.sizes[0]
    else:
        floats = isinstance(action, spaces.Box) and isinstance(learner.env, Binned)
        fits = floats and action.shape == actions.shape
    if not fits:
        raise UserError(f"actions are {action}: the learner has {actions}")


def _space(space: gymnax_spaces.Space) -> spaces.Space:
    """The same space, as Gymnasium has it; ``registry.make`` lets no other kinds through."""
    if isinstance(space, gymnax_spaces.Discrete):
        return spaces.Discrete(int(space.n))
    dtype = observation_dtype(space).type
    low, high = (np.broadcast_to(b, space.shape).astype(dtype) for b in (space.low, space.high))
    return spaces.Box(low, high, tuple(space.shape), dtype)


def _as_space(observation: Any, world: _World) -> Any:
    if isinstance(world.observation_space, spaces.Discrete):
        values = np.asarray(observation, np.int64)
        return values if values.ndim else values[()]
    return np.array(observation, world.dtype)


def _id(name: str) -> str:
    return f"ad_jax/{name}-v0"


for _name in registry.ENVIRONMENTS:
    gymnasium.register(
        _id(_name),
        entry_point="ad_jax.gymnasium:TaskEnv",
        vector_entry_point="ad_jax.gymnasium:TaskVectorEnv",
        kwargs={"name": _name},
    )
