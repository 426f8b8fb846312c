"""Writes histories as a TFDS data set of ArrayRecord shards.

A shard is one unit of work: all steps of some tasks. It is written under a temporary name, and
renamed when it is complete. The data set exists once ``commit`` has written its metadata. After an
interruption, ``missing`` returns the shards that have to be written again.
"""

import contextlib
import dataclasses
import os
import pathlib
import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from ad_jax.errors import UserError
from ad_jax.paths import Path, as_path
from data_pipelines import moments
from data_pipelines.files import atomic_write, fingerprint, read_json, remove_abandoned, write_json
from data_pipelines.index import Index
from data_pipelines.schema import VERSION, Schema

NAME = "histories"
SPLIT = "train"
PROVENANCE = "provenance.json"
METADATA = ("dataset_info.json", "features.json")  # what TFDS writes beside the shards
_QUEUED_CHUNKS = 2
_Block: TypeAlias = tuple[int, int, int, dict[str, np.ndarray]]  # of to_record


class Writer:
    """Writes the shards of one data set; ``missing``, then ``shard`` for each, then ``commit``."""

    def __init__(self, folder: str | os.PathLike, schema: Schema, num_shards: int):
        self.folder = as_path(folder)
        self.schema = schema
        self.num_shards = num_shards
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.folder)

    def path(self, shard: int) -> Path:
        """The path of a finished shard."""
        suffix = f"{shard:05d}-of-{self.num_shards:05d}"
        return self.folder / f"{NAME}-{SPLIT}.array_record-{suffix}"

    def missing(self) -> list[int]:
        """Shards that are not finished."""
        return [s for s in range(self.num_shards) if not summary_path(self.path(s)).exists()]

    @contextlib.contextmanager
    def shard(self, shard: int, tasks: np.ndarray) -> Iterator["ShardWriter"]:
        """Opens a shard for the given task ids; finishes it if the block raises no exception."""
        with atomic_write(self.path(shard)) as temporary:
            writer = ShardWriter(temporary, self.schema, tasks)
            try:
                yield writer
            finally:
                writer.stop()
            summary = writer.summary()
        with atomic_write(index_path(self.path(shard))) as temporary:
            writer.index().save(temporary)
            summary["index"] = fingerprint(temporary)
        write_json(summary_path(self.path(shard)), summary)

    def summaries(self) -> list[dict[str, Any]]:
        """The summary of each finished shard; see ``ShardWriter.summary``.

        Raises:
          UserError: a summary is damaged.
        """
        remedy = "remove it, and run the same command to write that shard again"
        paths = [summary_path(self.path(s)) for s in range(self.num_shards)]
        return [read_json(path, remedy) for path in paths]

    def commit(self, provenance: dict[str, Any]) -> None:
        """Makes the finished shards a data set that TFDS opens.

        Args:
          provenance: JSON values that describe where the data come from.
        """
        summaries = self.summaries()
        tfds.folder_dataset.write_metadata(
            data_dir=self.folder,
            features=self.schema.features(),
            split_infos=[
                tfds.core.SplitInfo(
                    name=SPLIT,
                    shard_lengths=[s["records"] for s in summaries],
                    num_bytes=sum(s["bytes"] for s in summaries),
                    filename_template=tfds.core.ShardedFileTemplate(
                        data_dir=self.folder,
                        dataset_name=NAME,
                        split=SPLIT,
                        filetype_suffix="array_record",
                    ),
                )
            ],
            version=VERSION,
            check_data=False,
            description="Learning histories of source learners, for Algorithm Distillation.",
        )
        of_shards = [s.get("statistics", {}) for s in summaries]
        measured = of_shards[0] if all(of_shards) else ()  # a shard of an older version has none
        indexed = {
            index_path(self.path(i)).name: s["index"]
            for i, s in enumerate(summaries)
            if "index" in s  # a shard of an older version has none, and is read to find out
        }
        document = {
            "version": VERSION,
            "schema": dataclasses.asdict(self.schema),
            **provenance,
            "statistics": {
                name: moments.pooled([of_shard[name] for of_shard in of_shards])
                for name in measured
            },
            "shards": {
                self.path(i).name: {k: s[k] for k in ("records", "bytes", "crc32")}
                for i, s in enumerate(summaries)
            },
            "metadata": {name: fingerprint(self.folder / name) for name in METADATA} | indexed,
        }
        write_json(self.folder / PROVENANCE, document)


class ShardWriter:
    """Writes chunks of histories in a thread of its own, while the next one is computed."""

    def __init__(self, path: pathlib.Path, schema: Schema, tasks: np.ndarray):
        self._path, self._schema, self._tasks = path, schema, tasks
        self._where: list[tuple[int, int, int]] = []  # task, stream and first step of each record
        self._starts: list[np.ndarray] = []  # of the episodes that begin in it
        self._start = 0
        self._error: BaseException | None = None
        self._statistics: dict[str, list[moments.Moments]] = {}
        self._chunks: queue.Queue = queue.Queue(maxsize=_QUEUED_CHUNKS)
        self._description: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def write(self, chunk: dict[str, Any]) -> None:
        """Queues the next steps of every stream: encoded fields [task, stream, record_steps, ...].

        Blocks while too many chunks are queued, so memory is bounded. Re-raises exceptions of the
        writing thread.
        """
        self._put(chunk)
        self._raise()

    def write_history(self, task: int, stream: int, history: Any) -> None:
        """Queues all steps of one stream, however many there are.

        The last record is padded with zeros, so the data set's provenance must contain "lengths",
        a list of [task, stream, steps]; ``Histories`` reads it.

        Args:
          task, stream: their numbers.
          history: a History of NumPy arrays [time, ...], not encoded.

        Raises:
          UserError: a step can't be stored as it is.
        """
        for what, where in self._schema.faults(history).items():
            if np.asarray(where).any():
                step = int(np.flatnonzero(where)[0])
                raise UserError(f"task {task}, stream {stream}, step {step}: {what}")
        fields = {k: np.asarray(v) for k, v in self._schema.encode(history).items()}
        self._measure(fields)
        size, steps = self._schema.record_steps, len(fields["action"])
        for start in range(0, steps, size):
            block = {k: v[start : start + size] for k, v in fields.items()}
            short = size - len(block["action"])
            pad = {k: ((0, short), *((0, 0),) * (v.ndim - 1)) for k, v in block.items()}
            self._put((task, stream, start, {k: np.pad(v, pad[k]) for k, v in block.items()}))
        self._raise()

    def describe(self, **summary: Any) -> None:
        """Adds JSON values to the shard's summary."""
        self._description.update(summary)

    def stop(self) -> None:
        """Waits for the thread; after that the file is closed."""
        self._put(None)
        self._thread.join()

    def summary(self) -> dict[str, Any]:
        """The shard's description, tasks, number of records, statistics, bytes and crc32.

        To be called after ``stop``. Re-raises exceptions of the writing thread.
        """
        self._raise()
        return {
            **self._description,
            "tasks": self._tasks.tolist(),
            "records": len(self._where),
            "statistics": {k: moments.pooled(v) for k, v in self._statistics.items()},
            **fingerprint(self._path),
        }

    def index(self) -> Index:
        """Where everything is; after ``stop``."""
        return Index.of(np.array(self._where, np.int32).reshape(-1, 3), self._starts)

    def _put(self, item: dict[str, Any] | _Block | None) -> None:
        """Queues an item, unless the thread has ended early."""
        while self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                return self._chunks.put(item, timeout=0.1)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._write_chunks()
        except BaseException as error:  # handed to the caller at its next call
            self._error = error

    def _write_chunks(self) -> None:
        features = self._schema.features()
        serializer = ExampleSerializer(features.get_serialized_info())
        writer = ArrayRecordWriter(str(self._path), "group_size:1")
        try:
            while (item := self._chunks.get()) is not None:
                for where in self._blocks(item) if isinstance(item, dict) else [item]:
                    record = self._schema.to_record(*where)
                    example = serializer.get_tf_example(features.encode_example(record))
                    # Otherwise the order of the fields differs from process to process.
                    writer.write(example.SerializeToString(deterministic=True))
                    task, stream, start, block = where
                    self._where.append((task, stream, start))
                    self._starts.append(start + np.flatnonzero(block["is_first"]))
                if isinstance(item, dict):
                    self._measure(item)
        finally:
            writer.close()

    def _measure(self, fields: dict[str, Any]) -> None:
        """Takes encoded steps into account, with any leading axes."""
        for name, found in moments.of_steps(self._schema, fields).items():
            self._statistics.setdefault(name, []).append(found)

    def _blocks(self, chunk: dict[str, Any]) -> Iterator[_Block]:
        """The next steps of every stream, record by record."""
        chunk = {k: np.asarray(v) for k, v in chunk.items()}
        for i, task in enumerate(self._tasks):
            for stream in range(chunk["action"].shape[1]):
                yield int(task), stream, self._start, {k: v[i, stream] for k, v in chunk.items()}
        self._start += self._schema.record_steps


def index_path(shard: Path) -> Path:
    """The path of a shard's index."""
    return shard.with_name(shard.name + ".index")


def summary_path(shard: Path) -> Path:
    return shard.with_name(shard.name + ".json")
