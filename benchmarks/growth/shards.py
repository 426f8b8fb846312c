"""Data sets of any size, made of one shard that is written once.

Every shard has its own index with its own tasks, so the number of rows, records and episodes fits
the size of the data set. The steps themselves are those of one shard: the others are copies of it,
or links to it, which take no space on the disk.
"""

import os
import pathlib
import shutil
from collections.abc import Callable

import numpy as np

from ad_jax import build
from ad_jax.envs import registry
from ad_jax.interfaces import History
from data_pipelines.files import fingerprint, read_json, write_json
from data_pipelines.index import Index
from data_pipelines.schema import Schema
from data_pipelines.writer import PROVENANCE, Writer, index_path, summary_path

STREAMS, STEPS, RECORD, EPISODE = 8, 20_000, 2000, 20
STEP_BYTES = 1.6


def random_steps(env, schema: Schema, shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Encoded random steps [task, stream, step] of an environment with integer observations."""
    space, rng = env.observation_space(env.default_params), np.random.default_rng(0)
    high = np.broadcast_to(np.asarray(space.high), space.shape)
    is_first = np.broadcast_to(np.arange(shape[-1]) % EPISODE == 0, shape)
    history = History(
        observation=rng.integers(0, high + 1, (*shape, *space.shape)).astype(np.int32),
        action=rng.integers(0, env.num_actions, shape).astype(np.int32),
        reward=rng.integers(0, 2, shape).astype(np.float32),
        is_first=is_first, is_last=np.roll(is_first, -1, -1), is_terminal=np.zeros(shape, bool),
    )  # fmt: skip
    return {k: np.asarray(v) for k, v in schema.encode(history).items()}


def write(folder: pathlib.Path, size: float) -> Writer:
    """Writes a data set of Dark Room: one shard of about ``size`` bytes, with at least one task."""
    env, _ = registry.make("DarkRoom")
    schema = Schema.of(env, RECORD)
    tasks = max(1, round(size / (STREAMS * STEPS * STEP_BYTES)))
    of_one = random_steps(env, schema, (1, STREAMS, STEPS))
    steps = {k: np.broadcast_to(v, (tasks, *v.shape[1:])) for k, v in of_one.items()}
    return store(folder, env, schema, steps)


def store(folder: pathlib.Path, env, schema: Schema, steps: dict[str, np.ndarray]) -> Writer:
    """Writes a data set of encoded steps [task, stream, step], in one shard."""
    tasks, _, number = steps["action"].shape
    writer, size = Writer(folder, schema, 1), schema.record_steps
    with writer.shard(0, np.arange(tasks)) as shard:
        for start in range(0, number, size):
            shard.write({k: v[:, :, start : start + size] for k, v in steps.items()})
    writer.commit({"environment": {"name": env.name, "version": build.version(env)}})
    return writer


def repeated(one: Writer, folder: pathlib.Path, number: int, repeat: Callable) -> int:
    """Writes a data set that repeats the only shard of another one; returns its size in bytes.

    Args:
      one: the writer of the other data set.
      folder: of the new data set; must not exist yet.
      number: of shards.
      repeat: ``repeat(shard, path)`` repeats the shard at a path: ``os.link``, or ``copy``.
    """
    writer, first = Writer(folder, one.schema, number), one.path(0)
    index, summary = Index.load(index_path(first), ""), read_json(summary_path(first), "")
    tasks = np.array(summary["tasks"], np.int32)
    for i in range(number):
        path, further = writer.path(i), np.int32(i * len(tasks))
        repeat(first, path)
        index._replace(task=index.task + further).save(index_path(path))
        own = {"tasks": (tasks + further).tolist(), "index": fingerprint(index_path(path))}
        write_json(summary_path(path), {**summary, **own})
    writer.commit({"environment": read_json(one.folder / PROVENANCE, "")["environment"]})
    return number * summary["bytes"]


def copy(shard: pathlib.Path, another: pathlib.Path) -> None:
    """Copies a shard to the disk, and drops the copy from the page cache."""
    shutil.copyfile(shard, another)
    forget(another)


def forget(path: pathlib.Path) -> None:
    """Writes a file to the disk, and drops it from the system's page cache."""
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)
