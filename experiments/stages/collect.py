"""Stage 1: the source learns every task of a group, and its histories are stored."""

import contextlib
import importlib.metadata
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from tqdm import tqdm

from ad_jax import build
from ad_jax.distributed import processes, sharding
from ad_jax.envs.tasks import Split
from ad_jax.errors import UserError
from ad_jax.interfaces import Source
from data_pipelines.schema import Schema
from data_pipelines.writer import PROVENANCE, Writer
from experiments.runtime.interruption import Interruption
from experiments.runtime.workdir import Folders, Workdir

PACKAGES = ("jax", "jaxlib", "flax", "optax", "gymnax", "numpy", "array_record")
# JAX's settings that change the numbers.
SETTINGS = ("jax_default_matmul_precision", "jax_default_prng_impl", "jax_threefry_partitionable")
MAX_ACTION_SHARE = 0.95  # the largest share of one action in the first tenth of a task's histories
MIN_ACTIONS = 100  # that tenth is extended to at least so many actions
QUANTILES = (0.1, 0.5, 0.9)  # over tasks


def done(config: ml_collections.ConfigDict, workdir: Folders) -> bool:
    """Whether the data set is finished, or not needed."""
    return not build.reads_windows(config) or (workdir.histories / PROVENANCE).exists()


def run(config: ml_collections.ConfigDict, workdir: Workdir, interruption: Interruption) -> None:
    """Collects the missing histories, checks them, and turns them into a data set.

    Raises:
      UserError: the histories can't be stored, or show too little learning to be distilled.
    """
    world = build.world(config)
    source = build.source(config, world.env)
    options = config.collect
    chunks = options.updates // options.updates_per_chunk
    schema = Schema.of(world.env, source.steps_per_update * options.updates_per_chunk)
    total = chunks * schema.record_steps  # steps of a stream
    streams = source.num_streams if options.streams is None else options.streams
    ids = collected_tasks(config, world)
    tiles = np.split(ids, range(options.tasks_per_tile, len(ids), options.tasks_per_tile))
    # Tasks are independent: processes exchange nothing, and a device that would have no tile is
    # left out.
    mesh = sharding.local_mesh(-(-len(tiles) // jax.process_count()))
    init, advance = make_collector(source, schema, options.updates_per_chunk, streams, mesh)
    writer = Writer(workdir.histories, schema, len(tiles))
    missing = writer.missing()
    processes.barrier("collect")  # nobody begins before all know what is missing
    first, together = (n * mesh.size for n in (jax.process_index(), jax.process_count()))
    compiled: dict[int, Any] = {}
    steps_of = lambda chosen: sum(len(tiles[t]) * source.num_streams * total for t in chosen)
    env_steps = steps_of(range(len(tiles)))
    with tqdm(
        desc="collect", unit=" steps", unit_scale=True, mininterval=1,
        total=env_steps, initial=env_steps - steps_of(missing), disable=not processes.is_first(),
    ) as progress:  # fmt: skip
        for group in groups(missing, [len(tile) for tile in tiles], together):
            mine = group[first : first + mesh.size]
            busy = (mine + [group[0]] * mesh.size)[: mesh.size]  # idle devices repeat a tile
            tasks_DxB = np.stack([tiles[tile] for tile in busy])
            shape = tasks_DxB.shape
            params = jax.tree.map(
                lambda x, shape=shape: x.reshape(*shape, *x.shape[1:]),
                world.tasks.params(tasks_DxB.reshape(-1)),
            )
            state = init(build.key(config, "collect"), tasks_DxB, params)
            if shape not in compiled:  # apart from the timing; the last tile may be smaller
                compiled[shape] = advance.lower(state).compile()
            began = time.perf_counter()
            statistics = [TileStatistics(shape[1], streams, total, schema) for _ in mine]
            with contextlib.ExitStack() as stack:
                shards = [stack.enter_context(writer.shard(t, tiles[t])) for t in mine]
                for chunk, faults in pipelined(compiled[shape], state, chunks, interruption):
                    check_faults(world.env.name, tasks_DxB[: len(mine)], faults)
                    for i, (shard, statistic) in enumerate(zip(shards, statistics, strict=True)):
                        of_tile = {k: v[i] for k, v in chunk.items()}
                        shard.write(of_tile)
                        statistic.add(of_tile)
                    progress.update(steps_of(group) // chunks)
                seconds = (time.perf_counter() - began) / len(group)
                for shard, statistic in zip(shards, statistics, strict=True):
                    shard.describe(**statistic.summary(), seconds=seconds)

    processes.barrier("collected")
    provenance = describe(config, world, ids, writer.summaries(), env_steps)
    if processes.is_first():
        writer.commit(provenance)
        seconds = provenance["seconds"]
        print(f"collect: {env_steps:,} steps of {len(ids)} tasks in {seconds:.1f} s, "
              f"{env_steps / seconds:,.0f} steps/s")  # fmt: skip
    processes.barrier("committed")


def pipelined(
    advance: Callable[[Any], tuple[Any, Any]], state: Any, number: int, interruption: Interruption
) -> Iterator[Any]:
    """Calls ``advance(state) -> (state, made)`` ``number`` times; yields what each call made.

    Each call is started before the result of the previous one is fetched, so devices do not wait.
    """
    running = None
    for call in range(number + 1):
        interruption.check()
        finished = running
        if call < number:
            state, running = advance(state)  # returns before it is done
        if finished is not None:
            yield jax.device_get(finished)


def describe(
    config: ml_collections.ConfigDict,
    world: build.World,
    ids: np.ndarray,
    summaries: list[dict[str, Any]],
    env_steps: int,
) -> dict[str, Any]:
    """The provenance of the histories of some tasks, from the summaries of the shards.

    Raises:
      UserError: the histories are not fit to be distilled.
    """
    join = lambda name: np.concatenate([s[name] for s in summaries])
    check_quality(ids, join("early"), join("late"), join("first_action_share"),
                  config.collect.min_improved)  # fmt: skip
    episodes = min(len(s["mean_return"][0]) for s in summaries)
    if not episodes:
        raise UserError(
            f"the histories of {world.env.name} hold no episode that all streams have finished: "
            "raise collect.updates, or shorten the episodes, in another workdir"
        )
    returns = np.concatenate([np.array(s["mean_return"])[:, :episodes] for s in summaries])
    return {
        "config": config.to_dict(),
        "seed": config.seed,
        "environment": {"name": world.env.name, "version": build.version(world.env)},
        "packages": {p: importlib.metadata.version(p) for p in PACKAGES},
        "settings": {name: getattr(jax.config, name) for name in SETTINGS},
        "device": jax.devices()[0].device_kind,
        "seconds": sum(s["seconds"] for s in summaries),
        "env_steps": env_steps,
        "mean_return_by_episode": returns.mean(0).tolist(),
        "return_quantiles_by_episode": np.quantile(returns, QUANTILES, axis=0).T.tolist(),
        "final_return_by_task": join("final").tolist(),
    }


def collected_tasks(config: ml_collections.ConfigDict, world: build.World) -> np.ndarray:
    """The tasks that the source learns: the training tasks, or another group to watch it on.

    Raises:
      UserError: there is no such group.
    """
    groups = {name: getattr(world, name) for name in Split._fields}
    if config.collect.tasks not in groups:
        raise UserError(f"collect.tasks={config.collect.tasks!r}: choose one of {sorted(groups)}")
    return groups[config.collect.tasks]


def groups(tiles: list[int], sizes: list[int], devices: int) -> list[list[int]]:
    """Groups of tiles to collect at once, one per device: at most ``devices``, of equal size."""
    by_size = [list(same) for _, same in itertools.groupby(tiles, key=lambda tile: sizes[tile])]
    return [same[i : i + devices] for same in by_size for i in range(0, len(same), devices)]


def make_collector(
    source: Source, schema: Schema, updates: int, streams: int, mesh: jax.sharding.Mesh
):
    """The jitted functions of collection, for one tile of tasks on each device.

    A task's histories depend on the key and its id, not on the other tasks. Every device runs the
    program of one tile, so the histories are bit for bit the same on any number of devices.

    Returns:
      ``init(key, task_ids, env_params) -> state``, where ids and params are [device, task, ...],
      and ``advance(state) -> (state, (chunk, faults))``. The chunk holds encoded steps
      [device, task, streams, updates * steps_per_update, ...] of the first ``streams`` streams of
      each task. ``faults`` counts, for each of ``Schema.faults``, the steps of each task that have
      it, in all its streams: int32 [device, task].
    """

    def init(key, task_ids, env_params):
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, task_ids)
        return jax.vmap(source.init)(keys, env_params)

    def advance(state):
        step = jax.vmap(source.step)
        state, histories = jax.lax.scan(lambda s, _: step(s), state, length=updates)

        def join(x):  # [update, task, stream, step, ...] → [task, stream, time, ...]
            x = jnp.moveaxis(x[:, :, :streams], 0, 2)
            return x.reshape(*x.shape[:2], -1, *x.shape[4:])

        faults = {k: v.sum((0, 2, 3)) for k, v in schema.faults(histories).items()}
        return state, (schema.encode(jax.tree.map(join, histories)), faults)

    init = sharding.on_each_device(mesh, init, num_shared=1)
    return jax.jit(init), jax.jit(sharding.on_each_device(mesh, advance), donate_argnums=0)


def check_faults(environment: str, tasks: np.ndarray, faults: dict[str, np.ndarray]) -> None:
    """Refuses steps that can't be stored as they are.

    Args:
      environment: its name.
      tasks: int [device, task], their ids.
      faults: for each kind of fault, in words, the number of steps that have it, int
        [device, task]; there may be more devices than in ``tasks``.

    Raises:
      UserError: a step is at fault.
    """
    for what, count in faults.items():
        if (bad := np.flatnonzero(count[: len(tasks)])).size:
            task, number = tasks.flat[bad[0]], count.flat[bad[0]]
            more = f" and {bad.size - 1} more" if bad.size > 1 else ""
            raise UserError(
                f"{environment} gave {what} ({number} in task {task}{more}): "
                "fix the environment; finished shards are kept"
            )


class TileStatistics:
    """Returns and first actions of each task's histories, accumulated over chunks.

    Args:
      num_tasks, num_streams: of the tile.
      total: steps of a history.
      schema: of the chunks.
    """

    def __init__(self, num_tasks: int, num_streams: int, total: int, schema: Schema):
        self._streams, self._total, self._schema = num_streams, total, schema
        self._episode = np.zeros((num_tasks, num_streams), np.int64)
        self._returns = np.zeros((num_tasks, 0))
        self._ended = np.zeros((num_tasks, 0), np.int64)
        self._seen = 0
        self._early, self._late = np.zeros((2, num_tasks))
        components = len(schema.actions.sizes)
        self._actions = np.zeros((num_tasks, components, schema.num_actions), np.int64)

    def add(self, chunk: dict[str, Any]) -> None:
        """Takes the next encoded steps [task, stream, time]."""
        is_last = np.asarray(chunk["is_last"])
        stored = np.asarray(chunk["reward"])
        reward = np.asarray(self._schema.decode_reward(stored))
        ended = np.cumsum(is_last, -1)
        episode = self._episode[..., None] + ended - is_last
        tasks, size = len(episode), int(episode.max()) + 1
        grow = ((0, 0), (0, max(0, size - self._returns.shape[1])))
        self._returns, self._ended = np.pad(self._returns, grow), np.pad(self._ended, grow)
        index = (np.arange(tasks)[:, None, None] * self._returns.shape[1] + episode).reshape(-1)
        count = lambda weights: np.bincount(
            index, weights.reshape(-1), minlength=self._returns.size
        ).reshape(self._returns.shape)
        self._returns += count(reward)
        self._ended += count(is_last).astype(np.int64)
        self._episode += ended[..., -1]

        time = self._seen + np.arange(reward.shape[-1])
        tenth = max(1, self._total // 10)
        early, late = time < tenth, time >= self._total - tenth
        self._early += reward[..., early].sum((1, 2))
        self._late += reward[..., late].sum((1, 2))
        enough = -(-MIN_ACTIONS // self._streams)
        action = np.asarray(chunk["action"])[:, :, time < max(tenth, enough)]
        action = action.reshape(*action.shape[:3], self._actions.shape[1])
        for a in range(self._schema.num_actions):
            self._actions[..., a] += (action == a).sum((1, 2))
        self._seen += reward.shape[-1]

    def summary(self) -> dict[str, list]:
        """The statistics as JSON values.

        Returns:
          mean_return [task, episode]: mean over streams, for the episodes that all streams of all
          tasks finished. early, late [task]: the mean return in the first and in the last tenth of
          the episodes that all streams of the task finished or, if there is at most one, the reward
          in the first and in the last tenth of its steps. final [task]: the mean return in the last
          tenth of these episodes. first_action_share [task]: the share of the most common action in
          the first tenth of the steps, extended to at least ``MIN_ACTIONS`` actions; for vectors,
          that of the component that varies most.
        """
        whole = self._episode.min(1)  # episodes that all streams of a task finished
        returns = self._returns / np.maximum(self._ended, 1)
        early, late, final = self._early.copy(), self._late.copy(), np.zeros(len(whole))
        for task, episodes in enumerate(whole):
            tenth = max(1, episodes // 10)
            if episodes:
                final[task] = returns[task, episodes - tenth : episodes].mean()
            if episodes > 1:
                early[task], late[task] = returns[task, :tenth].mean(), final[task]
        return {
            "mean_return": returns[:, : whole.min()].tolist(),
            "early": early.tolist(),
            "late": late.tolist(),
            "final": final.tolist(),
            "first_action_share": (self._actions.max(-1) / self._actions.sum(-1)).min(-1).tolist(),
        }


def check_quality(
    tasks: np.ndarray,
    early: np.ndarray,
    late: np.ndarray,
    shares: np.ndarray,
    min_improved: float,
) -> None:
    """Refuses histories that show no learning, unless none is asked for.

    Args:
      tasks: int [task], their ids.
      early, late: [task], mean returns at the beginning and at the end.
      shares: [task], share of the most common action in the first tenth of the histories.
      min_improved: fraction of the tasks whose return must have risen; 0 accepts everything, for
        histories of an expert.

    Raises:
      UserError: the return rose on too few tasks, or a task's actions were nearly constant from the
        beginning.
    """
    if not min_improved:
        return
    name = lambda ids: ", ".join(map(str, ids[:20])) + (", …" if len(ids) > 20 else "")
    failed = tasks[~(late > early)]
    if len(tasks) - len(failed) < round(min_improved * len(tasks), 6):
        raise UserError(
            f"the source did not improve on {len(failed)} of {len(tasks)} tasks ({name(failed)}): "
            "give it more updates, another learning rate or more streams, in another workdir"
        )
    degenerate = tasks[shares > MAX_ACTION_SHARE]
    if len(degenerate):
        raise UserError(
            f"the source did not explore: one action makes up more than {MAX_ACTION_SHARE:.0%} of "
            f"the first histories of {len(degenerate)} tasks ({name(degenerate)}): raise the "
            "entropy bonus or the noise, or lower the learning rate, in another workdir"
        )
