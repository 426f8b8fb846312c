"""Trained models: load one, let it act and learn in context, save it."""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import safetensors.numpy
from flax import struct, traverse_util
from jax.sharding import SingleDeviceSharding

import ad_jax
from ad_jax import build, checkpoint
from ad_jax import config as configs
from ad_jax.envs import spaces
from ad_jax.errors import UserError
from ad_jax.evaluation.statistics import episode_returns
from ad_jax.interfaces import Agent
from ad_jax.methods.train_state import init_params
from ad_jax.models.base import SequenceModel
from ad_jax.paths import Path, as_path
from ad_jax.rollout import make_rollouts, tasks_at_once

SUFFIX = ".safetensors"
FORMAT = "ad_jax learner 1"  # of a file that ``Learner.save`` writes
WEIGHTS = pathlib.Path(__file__).parent / "weights"


@struct.dataclass
class Context:
    """What a learner has seen so far: a pytree.

    Attributes:
      memory: the memory of its agent; with a leading axis [N] if there is a batch.
      action: its last action, int32 [] or [N] (one more axis if actions have components);
        ``Actions.none`` before the first one.
    """

    memory: Any
    action: jax.Array


class Tasks(NamedTuple):
    """The tasks of the environment in which a learner was trained.

    Attributes:
      train: ids of the tasks it was trained on, int32 [task].
      validation: ids of the tasks on which its settings were chosen, int32 [task].
      heldout: ids of the tasks that it has never seen, int32 [task].
      params: ``params(ids) -> EnvParams``, each leaf with a leading axis [task].
    """

    train: np.ndarray
    validation: np.ndarray
    heldout: np.ndarray
    params: Callable[[np.ndarray], Any]


@dataclasses.dataclass(frozen=True)
class Learner:
    """A frozen model that learns in its context. ``ad_jax.load`` returns one.

    ``reset`` and ``act`` check their arguments, and run one jitted step at a time. Inside ``jit``,
    ``vmap`` or ``scan``, use ``agent`` instead, whose ``init`` and ``act`` are pure functions.

    Attributes:
      config: the config of the run that trained it.
      model: the Flax module.
      params: its parameters, on one device.
      env: the gymnax environment that it was trained in.
      tasks: the tasks of that environment, and their split.
      make_agent: ``make_agent(temperature=…) -> Agent``, the model as an ``interfaces.Agent``.
      agent: the agent with the temperature that was given to ``load``.
    """

    config: ml_collections.ConfigDict
    model: SequenceModel
    params: Any
    env: Any
    tasks: Tasks
    make_agent: Callable[..., Agent]
    agent: Agent

    def reset(self, seed: int = 0, batch: int | None = None) -> Context:
        """An empty context.

        Args:
          seed: of the random draws of its actions.
          batch: number of parallel contexts; None for a single one, without a batch axis.

        Raises:
          UserError: ``seed`` or ``batch`` is not a whole number, or is out of range.
        """
        for name, value, least in (("seed", seed, 0), ("batch", batch, 1)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer | None):
                raise UserError(f"{name}={value!r}: give a whole number")
            if value is not None and not least <= value < 2**31:
                raise UserError(f"{name}={value}: give a number from {least} to {2**31 - 1}")
        key, actions = jax.random.key(seed), self.model.actions
        start = lambda key: Context(self.agent.init(key), jnp.asarray(actions.none))
        return start(key) if batch is None else jax.vmap(start)(jax.random.split(key, batch))

    def act(
        self, state: Context, observation: Any, reward: Any, done: Any, *, action: Any = None
    ) -> tuple[np.ndarray, Context]:
        """Reads what the last action led to, and chooses the next one.

        Args:
          state: from ``reset`` or the last call.
          observation: what the environment shows now, ``[*shape]`` of the observation space or
            ``[N, *shape]``.
          reward: what the last action brought, [] or [N]; 0 before the first one.
          done: bool [] or [N]; True if an episode begins with this observation, as the very first
            one does.
          action: the action that was really taken last, int [] or [N], if it is not the one that
            ``act`` returned; the learner then watches another agent act. If actions have
            components, there is one more axis, here and in the result.

        Returns:
          (action int32 [] or [N], the new state).

        Raises:
          UserError: a shape, a dtype or a value does not fit.
        """
        actions = self.model.actions
        lead = state.action.shape[: state.action.ndim - len(actions.shape)]
        observation = self._checked_observation(observation, lead)
        reward = _array("reward", reward, lead, "biuf", np.float32)
        if not np.isfinite(reward).all():
            raise UserError(f"reward is {reward}: give finite numbers")
        done = _array("done", done, lead, "b", np.bool_)
        if action is None:
            previous = state.action
        else:
            previous = _array("action", action, (*lead, *actions.shape), "iu", np.int32)
            if ((previous < 0) | (previous >= actions.none)).any():
                raise UserError(f"action is {previous}: actions are 0 to {actions.none - 1}")
        step = self._step_of_many if lead else self._step
        memory, chosen = step(state.memory, observation, previous, reward, done)
        return np.asarray(chosen), Context(memory, chosen)

    def evaluate(
        self, task_ids: Any = None, episodes: int = 20, rollouts: int = 8, seed: int = 0
    ) -> np.ndarray:
        """Lets the learner act in tasks of its environment, each rollout from an empty context.

        Args:
          task_ids: int [task]; the held-out tasks if None.
          episodes: number of episodes of each rollout.
          rollouts: number of rollouts for each task.
          seed: of all random draws.

        Returns:
          Returns of the episodes, float64 [task, rollout, episode].
        """
        ids = self.tasks.heldout if task_ids is None else np.asarray(task_ids, np.int32)
        params = self.tasks.params(ids)
        init, advance = make_rollouts(self.env, lambda _: self.agent)
        steps = episodes * int(np.max(params.max_steps_in_episode))

        @jax.jit
        def run(key, ids, params):
            state = init(key, ids, params, rollouts)
            history = advance(state, steps, tasks_at_once(state.memory))[1]
            return history.reward, history.is_last

        reward, is_last = run(jax.random.key(seed), ids, params)
        return episode_returns(np.asarray(reward), np.asarray(is_last), episodes)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the parameters and the config into one file that ``ad_jax.load`` reads.

        The file is in the safetensors format: arrays and text, nothing that is executed. A
        parameter's name is its path in the tree, joined by "/". The header's metadata has one
        entry, "ad_jax": JSON with format, version (of ad_jax), config, and checksum (of the
        parameters). The same learner gives the same bytes.

        Args:
          path: of the file, ending in ".safetensors".

        Raises:
          UserError: the path has another ending, or can't be written.
        """
        file = as_path(path)
        if file.suffix != SUFFIX:
            raise UserError(f"{path}: give a name that ends in {SUFFIX}")
        told = {
            "format": FORMAT,
            "version": ad_jax.__version__,
            "config": self.config.to_dict(),
            "checksum": checkpoint.checksum(self.params),
        }
        metadata = {"ad_jax": json.dumps(told, sort_keys=True)}
        leaves = traverse_util.flatten_dict(jax.tree.map(np.asarray, self.params), sep="/")
        try:
            file.write_bytes(safetensors.numpy.save(leaves, metadata))
        except OSError as error:
            raise UserError(f"{path} can't be written ({error.strerror}): give another") from error

    @functools.cached_property
    def _step(self) -> Callable[..., Any]:
        return jax.jit(self.agent.act)

    @functools.cached_property
    def _step_of_many(self) -> Callable[..., Any]:
        return jax.jit(jax.vmap(self.agent.act))

    def _checked_observation(self, observation: Any, lead: tuple[int, ...]) -> np.ndarray:
        space = self.model.space
        dtype = spaces.observation_dtype(space)
        kinds = "biuf" if dtype.kind == "f" else "iu"
        array = _array("observation", observation, (*lead, *space.shape), kinds, dtype)
        if dtype.kind == "f":
            if not np.isfinite(array).all():
                raise UserError("observation is NaN or infinite: give finite numbers")
        elif dtype == np.int32:
            components = array.reshape(*lead, -1)
            low = spaces.lowest(space)
            high = low + spaces.component_sizes(space) - 1
            if ((components < low) | (components > high)).any():
                raise UserError(
                    f"observation is {array.tolist()}: its components go from {low.tolist()} to "
                    f"{high.tolist()}"
                )
        return array


def load(
    source: str | os.PathLike,
    *,
    step: int | None = None,
    seed: int | None = None,
    mode: str | None = None,
    temperature: float | jax.Array | None = None,
) -> Learner:
    """Loads a trained learner.

    Args:
      source: the name of one that comes with the package (see ``shipped``), a file that
        ``Learner.save`` has written, a workdir of ``experiments.run`` or its "checkpoints/STEP".
        Files and folders may be in a bucket, as gs://bucket/workdir.
      step: of a workdir's checkpoints; the last one if None.
      seed: which training seed, where a run has trained several; the first one if None.
      mode: "fast" or "exact", see ``model_agent``; the config's if None.
      temperature: of the sampled actions; the config's if None.

    Raises:
      UserError: there is no such learner, or it can't be read.
    """
    config, params = _read(source, step, seed)
    try:
        world = build.world(config)
        module = build.model(config, world.env)
        params = params(module)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    options = config.evaluation
    make_agent = functools.partial(
        build.method(config, world).agent, params, mode=options.mode if mode is None else mode
    )
    agent = make_agent(temperature=options.temperature if temperature is None else temperature)
    tasks = Tasks(world.train, world.validation, world.heldout, world.tasks.params)
    return Learner(config, module, params, world.env, tasks, make_agent, agent)


def shipped() -> list[str]:
    """The names of the learners that come with the package."""
    return sorted(file.stem for file in WEIGHTS.glob(f"*{SUFFIX}"))


# Reads the parameters of a model, once it has been built from the config.
_Params = Callable[[SequenceModel], Any]


def _read(
    source: str | os.PathLike, step: int | None, seed: int | None
) -> tuple[ml_collections.ConfigDict, _Params]:
    """The config, and a function that reads the parameters."""
    if (name := os.fspath(source)) in shipped():
        return _read_file(WEIGHTS / f"{name}{SUFFIX}", step, seed)
    path = as_path(source)
    if path.suffix == SUFFIX:
        return _read_file(path, step, seed)
    if path.parent.name == "checkpoints" and re.fullmatch(r"\d+", path.name):
        if step not in (None, int(path.name)):
            raise UserError(f"{source} is one checkpoint: leave out step={step}")
        return _read_workdir(path.parent.parent, int(path.name), seed)
    if path.is_dir():
        return _read_workdir(path, step, seed)
    raise UserError(
        f"{source!r} is not a learner: give one of {shipped()}, a file that Learner.save has "
        "written, or a workdir"
    )


def _read_file(
    path: Path, step: int | None, seed: int | None
) -> tuple[ml_collections.ConfigDict, _Params]:
    if step is not None or seed is not None:
        raise UserError(f"{path} holds one learner: leave out step and seed")
    try:
        content = path.read_bytes()
        header = int.from_bytes(content[:8], "little")
        told = json.loads(json.loads(content[8 : 8 + header])["__metadata__"]["ad_jax"])
        leaves = safetensors.numpy.load(content)
        if told["format"] != FORMAT:
            raise UserError(f"{path} is {told['format']!r}, but this version reads {FORMAT!r}")
        config = configs.stored(told["config"])
        checksum = told["checksum"]
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise UserError(
            f"{path} was not written by Learner.save, or is damaged ({type(error).__name__}): save "
            "it again"
        ) from error

    def params(module: SequenceModel) -> Any:
        params = jax.tree.map(jnp.asarray, traverse_util.unflatten_dict(leaves, sep="/"))
        checkpoint.check_architecture(str(path), params, _shapes(module))
        if checkpoint.checksum(params) != checksum:
            raise UserError("it is damaged (its checksum differs): save it again")
        return params

    return config, params


def _read_workdir(
    path: Path, step: int | None, seed: int | None
) -> tuple[ml_collections.ConfigDict, _Params]:
    try:
        config = configs.stored(json.loads((path / "config.json").read_text()))
    except FileNotFoundError:
        raise UserError(f"{path} is not a workdir: it has no config.json") from None
    except ValueError as error:
        raise UserError(f"{path / 'config.json'} is damaged ({error})") from error
    seeds = [config.seed + i for i in range(config.train.seeds)]
    if seed is not None and seed not in seeds:
        raise UserError(f"seed={seed}: {path} was trained with seeds {seeds}")
    folder = path / "checkpoints"
    steps = checkpoint.steps(folder)
    if not steps:
        raise UserError(f"{folder} holds no checkpoint: run the stage 'train' first")
    if step is not None and step not in steps:
        raise UserError(f"step={step}: {folder} holds {steps}")

    def params(module: SequenceModel) -> Any:
        several = (len(seeds),) if len(seeds) > 1 else ()
        where = SingleDeviceSharding(jax.devices()[0])
        like = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((*several, *x.shape), x.dtype, sharding=where),
            _shapes(module),
        )
        with contextlib.closing(checkpoint.Checkpoints(folder)) as checkpoints:
            params, _ = checkpoints.restore_params(steps[-1] if step is None else step, like)
        chosen = 0 if seed is None else seeds.index(seed)
        return jax.tree.map(lambda x: x[chosen], params) if several else params

    return config, params


def _shapes(module: SequenceModel) -> Any:
    return jax.eval_shape(lambda key: init_params(key, module), jax.random.key(0))


def _array(name: str, value: Any, shape: tuple[int, ...], kinds: str, dtype: Any) -> np.ndarray:
    """An argument as an array of a dtype.

    Raises:
      UserError: it has another shape, or is not of these kinds of NumPy's dtypes.
    """
    if isinstance(value, jax.core.Tracer):
        raise UserError("act checks values, which are unknown inside jit: use learner.agent there")
    try:
        array = np.asarray(value)
    except ValueError as error:  # a ragged list
        raise UserError(f"{name} is not an array: {error}") from error
    if array.dtype.kind not in kinds:
        words = {"b": "bool", "iu": "whole numbers", "biuf": "numbers"}[kinds]
        raise UserError(f"{name} has dtype {array.dtype}: give {words}")
    if array.shape != shape:
        raise UserError(f"{name} has shape {array.shape}: give {shape}")
    return array.astype(dtype)
