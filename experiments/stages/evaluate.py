"""Stage 3: the frozen model learns in context, on training tasks and on the tasks it is tested on.

It is tested on held-out tasks for results and, while settings are being chosen, on validation
tasks. If the environment has shifted task distributions, it is tested on as many of their tasks.
"""

import contextlib
import time
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from ad_jax import build
from ad_jax.checkpoint import Checkpoints
from ad_jax.distributed import processes, sharding
from ad_jax.envs.tasks import TaskDistribution
from ad_jax.errors import UserError
from ad_jax.evaluation.agents import demonstrator, prompted_agent
from ad_jax.evaluation.statistics import episode_returns
from ad_jax.interfaces import Agent, Method
from ad_jax.methods.train_state import init_params
from ad_jax.models.base import SequenceModel
from ad_jax.paths import Path
from ad_jax.rollout import make_rollouts, tasks_at_once
from data_pipelines.files import atomic_write
from experiments.runtime import version
from experiments.runtime.interruption import Interruption
from experiments.runtime.metrics import write_returns
from experiments.runtime.workdir import Folders, Workdir

RESULTS = "rollouts.npz"
HELDOUT, VALIDATION, TRAIN = "heldout", "validation", "train"
LABELS = {HELDOUT: "held-out", VALIDATION: "validation", TRAIN: "training"}
_EPISODES_PER_CALL = 5
PROBE_TASKS, PROBE_ROLLOUTS, PROBE_EPISODES = 8, 2, 10  # at most, of each group


def done(config: ml_collections.ConfigDict, workdir: Folders) -> bool:
    """Whether the results are written."""
    return (workdir.evaluation / RESULTS).exists()


def run(config: ml_collections.ConfigDict, workdir: Workdir, interruption: Interruption) -> None:
    """Rolls out the models of the last checkpoint, one after the other, and stores the returns.

    The results hold:

    - task, int [task], and group, str [task];
    - returns, float [seed, task, rollout, episode];
    - prompt_returns, likewise, of the demonstrator's episodes before them;
    - mean_reward, float [seed, task, time], mean over rollouts;
    - observation, action, reward and is_last, [task, time, ...]: the first seed's first rollout of
      every task;
    - device, seconds and env_steps, and train_seconds and train_transitions_per_s of the training.

    The time axes have ``evaluation.episodes`` times the step limit, after any prompt. If episodes
    end before the limit, there are more of them than in the returns.
    """
    mesh = sharding.make_mesh(**config.mesh)
    world = build.world(config)
    model = build.model(config, world.env)
    options = config.evaluation
    tasks = evaluation_tasks(world, options.tasks, options.train_tasks)
    limit = int(np.max(tasks.params.max_steps_in_episode))
    models, training = trained(config, workdir.checkpoints, model, mesh)
    episodes = options.prompt_episodes + options.episodes
    method = build.method(config, world)

    def make_agent(params, env_params):
        agent = method.agent(params, mode=options.mode, temperature=options.temperature)
        if not options.prompt_episodes:
            return agent
        shown = demonstrator(world.env, env_params, options.prompt_quality)
        return prompted_agent(agent, shown, options.prompt_episodes)

    init, advance = make_evaluator(world.env, make_agent, mesh)
    keys = [build.key(config, "evaluate", config.seed + i) for i in range(len(models))]
    keys, inputs = sharding.put(keys, sharding.replicated(mesh)), _inputs(tasks, mesh)
    state = init(models[0], keys[0], *inputs, options.rollouts)
    per_call = min(_EPISODES_PER_CALL, episodes)
    calls, steps = -(-episodes // per_call), per_call * limit
    advance = advance.lower(models[0], state, steps).compile()

    parts: list[list] = [[] for _ in models]
    per_part = len(tasks.ids) * options.rollouts * steps
    env_steps = len(models) * calls * per_part
    began = time.perf_counter()
    with tqdm(
        desc="evaluate", unit=" steps", unit_scale=True, total=env_steps,
        disable=not processes.is_first(),
    ) as progress:  # fmt: skip
        for params, key, of_seed in zip(models, keys, parts, strict=True):
            del state  # two at once may not fit the devices
            state = init(params, key, *inputs, options.rollouts)
            for _ in range(calls):
                interruption.check()
                state, history = advance(params, state)
                first = (history.observation[:, 0], history.action[:, 0])
                seen = (*first, history.reward, history.is_last)
                of_seed.append(sharding.fetch(seen))
                progress.update(per_part)
    seconds = time.perf_counter() - began
    costs = {"seconds": seconds, "env_steps": env_steps}
    costs |= {f"train_{name}": value for name, value in training.items()}
    store = partial(_store, config, workdir, world.env.name, tasks, parts, limit, costs)
    processes.first_does(store)
    if processes.is_first():
        print(f"evaluate: {env_steps:,} steps in {seconds:.1f} s, "
              f"{env_steps / seconds:,.0f} steps/s")  # fmt: skip


def _store(
    config, workdir, environment: str, tasks, parts, limit: int, costs: dict[str, float]
) -> None:
    """Writes the results, whole or not at all."""
    number, prompt = len(tasks.ids), config.evaluation.prompt_episodes
    episodes = prompt + config.evaluation.episodes
    time_asked_for = episodes * limit
    observation, action = (
        np.concatenate([p[i] for p in parts[0]], 1)[:number, :time_asked_for] for i in (0, 1)
    )
    reward, is_last = (
        np.stack([
            np.concatenate([p[i] for p in of_seed], 2)[:number, :, :time_asked_for]
            for of_seed in parts
        ])
        for i in (2, 3)
    )  # fmt: skip

    returns = episode_returns(reward, is_last, episodes)
    check_returns(returns, environment)
    own = slice(prompt * limit, None)  # a demonstrator's episodes are of fixed length
    observation, action = observation[:, own], action[:, own]
    reward, is_last = reward[..., own], is_last[..., own]
    workdir.evaluation.mkdir(exist_ok=True)
    with atomic_write(workdir.evaluation / RESULTS) as path, path.open("wb") as file:
        np.savez_compressed(
            file,
            task=tasks.ids,
            group=tasks.group,
            returns=returns[..., prompt:],
            prompt_returns=returns[..., :prompt],
            mean_reward=reward.mean(2),
            observation=observation,
            action=action,
            reward=reward[0, :, 0],
            is_last=is_last[0, :, 0],
            device=version.devices(),
            **costs,
        )
    curve = returns[..., prompt:].mean((0, 2))
    groups = dict.fromkeys(tasks.group.tolist())
    write_returns(config, workdir, {name: curve[tasks.group == name].mean(0) for name in groups})


def check_returns(returns: np.ndarray, environment: str) -> None:
    """Refuses returns that are not finite.

    Args:
      returns: float [...], of episodes; NaN for those that did not end.
      environment: its name.

    Raises:
      UserError: a return is NaN or infinite.
    """
    if bad := int((~np.isfinite(returns)).sum()):
        raise UserError(
            f"{bad} of {returns.size} episodes of {environment} have no return: they did not end "
            "within max_steps_in_episode, or a reward was NaN or infinite: fix the environment"
        )


def load_results(folder: Path) -> dict[str, np.ndarray]:
    """What ``run`` has written into a folder "evaluation".

    Raises:
      UserError: it is damaged.
    """
    path = folder / RESULTS
    try:
        with path.open("rb") as file, np.load(file) as results:
            return dict(results)
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path} is damaged ({error}): remove it and run the stage 'evaluate' again"
        ) from error


class EvaluationTasks(NamedTuple):
    """Tasks in the order of the results, starting with those that the model is tested on.

    Attributes:
      ids: int32 [task].
      group: str [task], the name of each task's group.
      params: EnvParams, with a leading axis [task].
    """

    ids: np.ndarray
    group: np.ndarray
    params: Any


def evaluation_tasks(world: build.World, tested: str, train_tasks: int) -> EvaluationTasks:
    """The tasks of an evaluation.

    Args:
      world: with all tasks.
      tested: which of them the model is tested on, "heldout" or "validation"; the tasks of a
        shifted distribution have the same ids.
      train_tasks: the most training tasks to evaluate as well.

    Raises:
      UserError: there is no such group, or it is empty.
    """
    ids = tested_tasks(world, tested)
    spread = np.linspace(0, len(world.train) - 1, min(len(world.train), train_tasks))
    return _with_shifts(world.tasks, tested, ids, world.train[spread.astype(int)])


def tested_tasks(world: build.World, group: str) -> np.ndarray:
    """The ids of "heldout" or "validation".

    Raises:
      UserError: there is no such group, or none in it.
    """
    if group not in (HELDOUT, VALIDATION):
        raise UserError(f"evaluation.tasks={group!r}: choose {HELDOUT!r} or {VALIDATION!r}")
    if not len(ids := getattr(world, group)):
        raise UserError(f"evaluation.tasks={group!r}, but tasks.num_{group} is 0: raise it")
    return ids


def _with_shifts(
    tasks: TaskDistribution, tested: str, ids: np.ndarray, train: np.ndarray
) -> EvaluationTasks:
    """Tested tasks, training tasks, and those of each shift; empty groups are left out."""
    groups = {
        tested: (tasks, ids),
        TRAIN: (tasks, train),
        **{name: (shift, ids) for name, shift in tasks.shifted.items()},
    }
    groups = {name: of for name, of in groups.items() if len(of[1])}
    params = [distribution.params(ids) for distribution, ids in groups.values()]
    return EvaluationTasks(
        ids=np.concatenate([ids for _, ids in groups.values()]),
        group=np.repeat(list(groups), [len(ids) for _, ids in groups.values()]),
        params=jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *params),
    )


def is_tested(group: np.ndarray) -> np.ndarray:
    """Which tasks of an evaluation, bool [task], are those that the model is tested on."""
    return group == group[0]


def make_evaluator(env: Any, make_agent: Callable[[Any, Any], Agent], mesh: Mesh):
    """The jitted rollouts of an agent, spread over the tasks.

    Parameters may be sharded over the devices, and then each call exchanges them: on a CPU, fetch
    the result of a call before the next one; see ``sharding.jit_on_mesh``.

    Args:
      env: a gymnax environment.
      make_agent: ``make_agent(params, env_params) -> Agent``.
      mesh: where it runs.

    Returns:
      ``init(params, key, task_ids, env_params, num_rollouts) -> state`` and
      ``advance(params, state, steps) -> (state, History)``; the counts are static.
    """
    rollouts = lambda params: make_rollouts(env, partial(make_agent, params))
    spread = sharding.task_sharding(mesh)
    init = jax.jit(
        lambda params, *args: rollouts(params)[0](*args), static_argnums=4, out_shardings=spread
    )

    def advance(params, state, steps):
        by_device = jax.tree.map(lambda x: x.reshape(mesh.size, -1, *x.shape[1:]), state)
        own = lambda params, state: rollouts(params)[1](state, steps, tasks_at_once(state.memory))
        made = sharding.on_each_device(mesh, own, num_shared=1)(params, by_device)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), made)

    advance = jax.jit(advance, static_argnums=2, donate_argnums=1, out_shardings=spread)
    return init, advance


def _inputs(tasks: EvaluationTasks, mesh: Mesh) -> tuple[Any, Any]:
    """(ids, batched params) on the devices, repeated until these share them equally."""
    rows = sharding.padded(mesh, np.arange(len(tasks.ids)))
    inputs = tasks.ids[rows], jax.tree.map(lambda x: x[rows], tasks.params)
    return sharding.put(inputs, sharding.replicated(mesh))


def make_probe(
    config: ml_collections.ConfigDict, world: build.World, method: Method, mesh: Mesh
) -> Callable[[list[Any]], dict[str, np.ndarray]]:
    """A short evaluation for the training curves, on few tasks and episodes, without prompts.

    It tests on validation tasks, so that settings are never chosen on held-out tasks.

    Args:
      config: of the run.
      world: its tasks.
      method: makes the agent.
      mesh: where it runs.

    Returns:
      ``probe(params of each seed) -> metrics``: for each group of tasks, the mean return in the
      first and in the last episode, float [seed].
    """
    few = (ids[:PROBE_TASKS] for ids in (world.validation, world.train))
    tasks = _with_shifts(world.tasks, VALIDATION, *few)
    options = config.evaluation
    episodes = min(options.episodes, PROBE_EPISODES)
    steps = episodes * int(np.max(tasks.params.max_steps_in_episode))
    inputs = _inputs(tasks, mesh)
    acting = {"mode": options.mode, "temperature": options.temperature}
    init, advance = make_evaluator(world.env, lambda p, _: method.agent(p, **acting), mesh)

    def probe(models: list[Any]) -> dict[str, np.ndarray]:
        returns = []
        for i, params in enumerate(models):
            key = build.key(config, "evaluate", config.seed + i)
            key = sharding.put(key, sharding.replicated(mesh))
            state = init(params, key, *inputs, PROBE_ROLLOUTS)
            _, history = advance(params, state, steps)
            seen = sharding.fetch((history.reward, history.is_last))
            returns.append(episode_returns(*(x[: len(tasks.ids)] for x in seen), episodes))
        of_groups = {g: np.stack(returns)[:, tasks.group == g] for g in np.unique(tasks.group)}
        return {
            f"{group}_return_{name}": values[..., episode].mean((1, 2))
            for group, values in of_groups.items()
            for name, episode in (("first", 0), ("last", -1))
        }

    return probe


def trained(
    config: ml_collections.ConfigDict, folder: Path, model: SequenceModel, mesh: Mesh
) -> tuple[list[Any], dict[str, float]]:
    """The last parameters of each seed in a folder of checkpoints, and what training them cost.

    The optimizer's state is not read. The parameters of a single seed are sharded over the devices
    as in training; with several seeds, every device holds all of them.

    Raises:
      UserError: there is no checkpoint, or training has not finished.
    """
    with contextlib.closing(Checkpoints(folder)) as checkpoints:
        step = checkpoints.latest_step()
        if step is None:
            raise UserError(f"{folder} holds no checkpoint: run the stage 'train' first")
        shapes = jax.eval_shape(lambda key: init_params(key, model), jax.random.key(0))
        seeds = () if config.train.seeds == 1 else (config.train.seeds,)
        if seeds:
            shardings = jax.tree.map(lambda _: sharding.replicated(mesh), shapes)
        else:
            shardings = sharding.state_shardings(mesh, shapes, build.sharding_rules(config))
        like = jax.tree.map(
            lambda x, where: jax.ShapeDtypeStruct((*seeds, *x.shape), x.dtype, sharding=where),
            shapes,
            shardings,
        )
        sharding.check_memory(like, shardings)
        params, training = checkpoints.restore_params(step, like)
        if step != config.train.steps:
            raise UserError(
                f"training stopped at step {step} of {config.train.steps}: finish the stage "
                "'train' first"
            )
    costs = {name: training[name] for name in ("seconds", "transitions_per_s")}
    of_seed = lambda i: jax.tree.map(lambda x: x[i], params)
    return list(map(of_seed, range(*seeds))) if seeds else [params], costs
