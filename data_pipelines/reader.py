"""Reads a data set of histories, after checking that it is whole and unharmed."""

import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from ad_jax.errors import UserError
from ad_jax.paths import Path, as_path
from data_pipelines.files import fingerprint, local_copy, read_json
from data_pipelines.schema import STEP_FIELDS, VERSION, Schema
from data_pipelines.writer import METADATA, PROVENANCE, SPLIT

_BATCH = 4096  # records that are read together


@dataclasses.dataclass(frozen=True)
class Selection:
    """What of each history is distilled.

    Attributes:
      every: keep one episode of so many, which shows the same learning in fewer episodes.
      streams: number of streams to keep of each task, the first ones; None keeps all.
      begin: where the part of each history that is kept begins; 0 is its beginning.
      end: where that part ends; 1 is its end, so that 0.9 to 1 is an expert's.
      tasks: keep histories of these tasks; None keeps all.

    Raises:
      UserError: nothing would be kept.
    """

    every: int = 1
    streams: int | None = None
    begin: float = 0.0
    end: float = 1.0
    tasks: frozenset[int] | None = None

    def __post_init__(self):
        if not 0 <= self.begin < self.end <= 1:
            raise UserError(
                f"begin={self.begin} and end={self.end} must be parts of a history, from 0 to 1, "
                "the first below the second"
            )
        if self.every < 1:
            raise UserError(f"every={self.every}: keep every first episode, every second, ...")
        if self.streams is not None and self.streams < 1:
            raise UserError(f"streams={self.streams}: keep one or more, or None")


class Histories:
    """A data set of histories.

    Every (task, stream) is a *row*; rows are sorted by task, then by stream.

    Attributes:
      schema: how steps are stored.
      provenance: what ``Writer.commit`` was given, with format version, schema and checksums.
      task: int32 [rows].
      stream: int32 [rows].
      episode_starts: for each row, int64 [episodes + 1]: where its episodes start, and its end.
    """

    def __init__(self, folder: str | os.PathLike):
        """Opens and checks a data set.

        Raises:
          UserError: there is none, its format is another one, or a file is cut short or damaged.
        """
        self.folder = as_path(folder)
        self.provenance = _read_provenance(self.folder)
        self.schema = Schema.from_json(self.provenance["schema"])
        files = self.provenance["shards"] | self.provenance.get("metadata", {})
        # ArrayRecord opens local files only.
        local = local_copy(self.folder, files.keys() | METADATA, json.dumps(files))
        mend = _mend(self.folder, local)
        _check_files(local, files, mend)
        try:
            builder = tfds.builder_from_directory(local)
            raw = tfds.decode.DeserializeMethod.RAW_BYTES
            self._source = builder.as_data_source(split=SPLIT, deserialize_method=raw)
            self._index()
        except (OSError, MemoryError):
            raise
        except Exception as error:  # TFDS, protobuf and ArrayRecord each raise errors of their own
            raise UserError(
                f"{self.folder}: TFDS can't read it ({', '.join(METADATA)} and the shards): {mend}"
            ) from error

    def _index(self) -> None:
        """Finds the blocks of every row, and where its episodes start."""
        size = self.schema.record_steps
        parts: list[Any] = []
        for begin in range(0, len(self._source), _BATCH):
            records = range(begin, min(begin + _BATCH, len(self._source)))
            found = self._parse(records, ("task", "stream", "start", "is_first"))
            where = np.concatenate([found[k] for k in ("task", "stream", "start")], -1)
            starts = [
                s + np.flatnonzero(f) for s, f in zip(where[:, 2], found["is_first"], strict=True)
            ]
            parts += zip(map(tuple, where.tolist()), records, starts, strict=True)
        parts.sort(key=lambda part: part[0])
        told = self.provenance.get("lengths", ())  # where they differ, the last record is filled up
        lengths = {(task, stream): steps for task, stream, steps in told}
        rows = [list(row) for _, row in itertools.groupby(parts, key=lambda part: part[0][:2])]
        self.task = np.array([row[0][0][0] for row in rows], np.int32)
        self.stream = np.array([row[0][0][1] for row in rows], np.int32)
        self._records = np.full((len(rows), max(map(len, rows), default=0)), -1)
        self.episode_starts = []
        for i, row in enumerate(rows):
            self._records[i, : len(row)] = [record for _, record, _ in row]
            end = lengths.get(row[0][0][:2], len(row) * size)
            self.episode_starts.append(np.concatenate([*(s for *_, s in row), [end]]))

    def _parse(self, records: Sequence[int], names: Sequence[str]) -> dict[str, np.ndarray]:
        """Fields of some records, in the order of these, flags and rewards unpacked."""
        fields = self.schema.parse(self._source.__getitems__(list(records)), names)
        return fields | self.schema.from_record(fields)

    def read(
        self, rows: np.ndarray, steps: np.ndarray, names: Sequence[str] = STEP_FIELDS
    ) -> dict[str, np.ndarray]:
        """Steps of rows, encoded as by ``Schema.encode``.

        Args:
          rows: int [...].
          steps: int [...], of each row, counted from the beginning of its stream.
          names: of the fields.

        Returns:
          Fields ``[..., *shape]``, of the shape to which rows and steps are broadcast.

        Raises:
          IndexError: a row has no such step.
          UserError: a stored number is NaN or infinite, or no level of the rewards.
        """
        size, steps = self.schema.record_steps, np.asarray(steps)
        record = self._records[rows, steps // size]
        if (record < 0).any() or (steps < 0).any():
            raise IndexError("a step before the first of its row, or after the last")
        records, block = np.unique(record, return_inverse=True)
        fields = self._parse(records.tolist(), names)
        found = {k: fields[k][block.reshape(record.shape), steps % size] for k in names}
        if fault := self.schema.fault(found):
            raise UserError(f"{self.folder} has {fault}: mend the environment, and collect again")
        return found

    def kept_episodes(self, selection: "Selection") -> list[np.ndarray]:
        """For each row, int64 [kept, 2]: begin and end of the episodes that are kept."""

        def kept(task: int, stream: int, starts: np.ndarray) -> np.ndarray:
            episodes = np.stack([starts[:-1], starts[1:]], -1)
            if selection.streams is not None and stream >= selection.streams:
                return episodes[:0]
            if selection.tasks is not None and task not in selection.tasks:
                return episodes[:0]
            first, last = (round(part * len(episodes)) for part in (selection.begin, selection.end))
            return episodes[first : last : selection.every]

        rows = zip(self.task.tolist(), self.stream, self.episode_starts, strict=True)
        return [kept(*row) for row in rows]


def _read_provenance(folder: Path) -> dict[str, Any]:
    path = folder / PROVENANCE
    if not path.exists():
        raise UserError(f"{folder} holds no finished data set: run the stage 'collect' first")
    provenance = read_json(path, _mend(folder))
    if provenance["version"].split(".")[0] != VERSION.split(".")[0]:
        raise UserError(
            f"{folder} has format {provenance['version']}, this program reads {VERSION}: "
            "collect the histories again in another workdir"
        )
    return provenance


def _mend(*folders: Path) -> str:
    return f"remove {' and '.join(map(str, dict.fromkeys(folders)))} and collect again"


def _check_files(folder: pathlib.Path, files: dict[str, dict[str, int]], mend: str) -> None:
    for name, expected in files.items():
        path = folder / name
        if not path.exists():
            raise UserError(f"{path} is missing: {mend}")
        found = fingerprint(path)
        if found["bytes"] != expected["bytes"]:
            raise UserError(
                f"{path} is cut short: {found['bytes']} of {expected['bytes']} bytes: {mend}"
            )
        if found["crc32"] != expected["crc32"]:
            raise UserError(f"{path} is damaged (its checksum differs): {mend}")
