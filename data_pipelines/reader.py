"""Reads a data set of histories, after checking that it is complete and undamaged."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from ad_jax.errors import UserError
from ad_jax.paths import Path, as_path, reason
from data_pipelines.files import fingerprint, local_copy, read_json
from data_pipelines.index import Index, joined
from data_pipelines.schema import STEP_FIELDS, VERSION, Schema, messages
from data_pipelines.writer import METADATA, PROVENANCE, SPLIT, index_path

_BATCH = 4096  # records that are read together
# Shards are read in parallel if a call reads at least so many records per shard, on average.
# ArrayRecord starts threads for every call, which costs more than it saves for fewer records.
_PARALLEL = 4
# Opening a data set verifies the checksums of at most so many bytes of shards, so that it takes a
# second or two at any size. Every record also has its own checksum, verified on every read.
_CHECKED_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class Selection:
    """The part of each history that is distilled.

    Attributes:
      every: keep every ``every``-th episode, so that fewer episodes show the same learning.
      streams: keep the first ``streams`` streams of each task; None keeps all.
      begin: start of the kept part, as a fraction of the history's episodes.
      end: end of the kept part, as such a fraction: from 0.9 to 1 the source is an expert.
      tasks: keep the histories of these tasks; None keeps all.

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
                f"begin={self.begin} and end={self.end} must be fractions of a history, from 0 "
                "to 1, the first below the second"
            )
        if self.every < 1:
            raise UserError(f"every={self.every}: give 1 for every episode, 2 for every second, …")
        if self.streams is not None and self.streams < 1:
            raise UserError(f"streams={self.streams}: give 1 or more, or None for all")


class Episodes(NamedTuple):
    """The kept episodes of a data set, in the order of rows and steps.

    Kept episodes of a row that have the same length and the same distance are a run.

    Attributes:
      row: int [runs], the row of each run.
      begin: int [runs], the step of the row at which the run's first episode begins.
      stride: int [runs], steps from the beginning of one kept episode to that of the next.
      length: int [runs], steps of each episode.
      before: int64 [runs + 1], kept steps before each run, over all rows; then their total.
      lengths: int64 [rows], kept steps of each row.
    """

    row: np.ndarray
    begin: np.ndarray
    stride: np.ndarray
    length: np.ndarray
    before: np.ndarray
    lengths: np.ndarray

    def place(self, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(row, step of the row), int [...], of kept steps given by their number over all rows."""
        run = np.searchsorted(self.before, step, side="right") - 1
        episode, within = np.divmod(step - self.before[run], self.length[run])
        return self.row[run], self.begin[run] + episode * self.stride[run] + within


class Histories:
    """A data set of histories.

    Every (task, stream) is a *row*; rows are sorted by task, then by stream.

    Attributes:
      schema: how steps are stored.
      provenance: what ``Writer.commit`` was given, with format version, schema and checksums.
      task: int32 [rows].
      stream: int32 [rows].
      lengths: int64 [rows], steps of each row.
    """

    def __init__(self, folder: str | os.PathLike):
        """Opens a data set and checks its files.

        Checksums of shards are verified up to ``_CHECKED_BYTES``; damage beyond that is found by
        ``read``.

        Raises:
          UserError: there is no data set, its format has another major version, or a file is
            missing, truncated or damaged.
        """
        self.folder = as_path(folder)
        self.provenance = _read_provenance(self.folder)
        self.schema = Schema.from_json(self.provenance["schema"])
        shards, metadata = self.provenance["shards"], self.provenance.get("metadata", {})
        files = shards | metadata
        # ArrayRecord opens local files only.
        local = local_copy(self.folder, files.keys() | METADATA, json.dumps(files))
        self._mend = _mend(self.folder, local)
        _check_files(local, metadata, self._mend, sum(f["bytes"] for f in metadata.values()))
        _check_files(local, shards, self._mend, _CHECKED_BYTES)
        try:
            builder = tfds.builder_from_directory(local)
            raw = tfds.decode.DeserializeMethod.RAW_BYTES
            self._source = builder.as_data_source(split=SPLIT, deserialize_method=raw)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # TFDS and protobuf each raise errors of their own
            raise UserError(
                f"{self.folder}: TFDS can't read it ({', '.join(METADATA)}): {self._mend}"
            ) from error
        self._shard_ends = np.cumsum([shard["records"] for shard in shards.values()])
        self._arrange(self._indexes(local, shards))

    def _indexes(self, folder: pathlib.Path, shards: Mapping[str, Mapping[str, int]]) -> Index:
        """The index of all shards; where an older version stored none, it is made from records."""
        parts, begin = [], 0
        for name, shard in shards.items():
            path, end = index_path(folder / name), begin + shard["records"]
            indexed = path.name in self.provenance.get("metadata", {})
            of_shard = Index.load(path, self._mend) if indexed else self._found(range(begin, end))
            parts.append(of_shard)
            begin = end
        return joined(parts, [shard["records"] for shard in shards.values()])

    def _found(self, records: range) -> Index:
        """The index of some records, by reading them."""
        where, starts = [np.zeros((0, 3), np.int32)], []
        for begin in range(records.start, records.stop, _BATCH):
            batch = range(begin, min(begin + _BATCH, records.stop))
            found = self._parse(batch, ("task", "stream", "start", "is_first"))
            where.append(np.concatenate([found[k] for k in ("task", "stream", "start")], -1))
            starts += [
                start + np.flatnonzero(first)
                for (start,), first in zip(found["start"], found["is_first"], strict=True)
            ]
        return Index.of(np.concatenate(where), starts)

    def _arrange(self, index: Index) -> None:
        """Sorts the rows, and says where the records and episodes of each are."""
        order = np.lexsort((index.stream, index.task))
        before = lambda count: np.cumsum(count, dtype=np.int64) - count
        self.task, self.stream = index.task[order], index.stream[order]
        self._record, self._num_records = index.record, index.records[order]
        self._first_record = before(index.records)[order]
        self.lengths = self._num_records.astype(np.int64) * self.schema.record_steps
        if told := self.provenance.get("lengths", ()):  # a row's last record may be padded
            places = zip(self.task.tolist(), self.stream.tolist(), strict=True)
            number = {place: row for row, place in enumerate(places)}
            for task, stream, steps in told:
                self.lengths[number[task, stream]] = steps

        runs = index.runs[order]
        self._run_row = np.repeat(np.arange(len(order)), runs)
        run = (before(index.runs)[order] - before(runs))[self._run_row] + np.arange(runs.sum())
        self._run_begin, self._run_count = index.begin[run], index.count[run]
        last = np.append(np.diff(self._run_row) > 0, True)[: len(run)]
        end = np.where(last, self.lengths[self._run_row], np.append(self._run_begin[1:], 0))
        self._run_length = (end - self._run_begin) // self._run_count

    def _stored(self, records: Sequence[int]) -> Sequence[bytes]:
        """Some records, in the order of these."""
        shards = np.unique(np.searchsorted(self._shard_ends, records, side="right"))
        if len(records) < _PARALLEL * len(shards):
            return [self._source[record] for record in records]
        return self._source.__getitems__(list(records))

    def _parse(self, records: Sequence[int], names: Sequence[str]) -> dict[str, np.ndarray]:
        """Fields of some records, in the order of these, flags and rewards unpacked.

        Raises:
          UserError: a record is damaged.
        """
        try:
            stored = messages(self._stored(records))
        except (OSError, MemoryError):
            raise
        except Exception as error:  # ArrayRecord and protobuf each raise errors of their own
            raise UserError(
                f"{self.folder} has a damaged record ({reason(error)}): {self._mend}"
            ) from error
        fields = self.schema.parse(stored, names)
        return fields | self.schema.from_record(fields)

    def read(
        self, rows: np.ndarray, steps: np.ndarray, names: Sequence[str] = STEP_FIELDS
    ) -> dict[str, np.ndarray]:
        """Reads single steps, encoded as by ``Schema.encode``.

        Args:
          rows: int [...], the row of each step.
          steps: int [...], the number of each step, counted from the beginning of its stream.
          names: the fields to read.

        Returns:
          The fields by name, ``[..., *shape]``; rows and steps are broadcast to the leading axes.

        Raises:
          IndexError: a row has no such step.
          UserError: a stored value is invalid (see ``Schema.fault``), or a record is damaged.
        """
        size, steps = self.schema.record_steps, np.asarray(steps)
        if ((steps < 0) | (steps >= self._num_records[rows] * size)).any():
            raise IndexError("a step before the first of its row, or after the last")
        record = self._record[self._first_record[rows] + steps // size]
        records, block = np.unique(record, return_inverse=True)
        fields = self._parse(records.tolist(), names)
        found = {k: fields[k][block.reshape(record.shape), steps % size] for k in names}
        if fault := self.schema.fault(found):
            raise UserError(f"{self.folder} has {fault}: fix the environment, and collect again")
        return found

    def kept_episodes(self, selection: Selection) -> Episodes:
        """The episodes that a selection keeps."""
        chosen = np.ones(len(self.task), bool)
        if selection.streams is not None:
            chosen &= self.stream < selection.streams
        if selection.tasks is not None:
            chosen &= np.isin(self.task, list(selection.tasks))
        row, every = self._run_row, selection.every
        number = np.bincount(row, self._run_count, len(chosen))  # of the episodes of each row
        low, high = (
            np.where(chosen, np.rint(part * number), 0).astype(np.int64)[row]
            for part in (selection.begin, selection.end)
        )
        # The episodes of a row are numbered from 0: those of each run, and which of them are kept.
        begin = np.cumsum(self._run_count, dtype=np.int64) - self._run_count
        begin -= (np.cumsum(number) - number).astype(np.int64)[row]
        first = low + -(-np.maximum(begin - low, 0) // every) * every
        count = -(-(np.minimum(begin + self._run_count, high) - first) // every)
        kept = count > 0
        length = self._run_length[kept]
        steps = length * count[kept]
        return Episodes(
            row[kept], (self._run_begin + (first - begin) * self._run_length)[kept],
            length * every, length, np.append(0, np.cumsum(steps, dtype=np.int64)),
            np.bincount(row[kept], steps, len(chosen)).astype(np.int64),
        )  # fmt: skip


def _read_provenance(folder: Path) -> dict[str, Any]:
    path = folder / PROVENANCE
    if not path.exists():
        raise UserError(f"{folder} holds no finished data set: run the stage 'collect' first")
    provenance = read_json(path, _mend(folder))
    if provenance["version"].split(".")[0] != VERSION.split(".")[0]:
        raise UserError(
            f"{folder} has format {provenance['version']}, but this program reads {VERSION}: "
            "collect the histories again in another workdir"
        )
    return provenance


def _mend(*folders: Path) -> str:
    return f"remove {' and '.join(map(str, dict.fromkeys(folders)))} and collect again"


def _check_files(
    folder: pathlib.Path, files: Mapping[str, Mapping[str, int]], remedy: str, budget: int
) -> None:
    """Compares the sizes of files, and the checksums of the first ``budget`` bytes of them."""
    for name, expected in files.items():
        path = folder / name
        if not path.exists():
            raise UserError(f"{path} is missing: {remedy}")
        if (size := path.stat().st_size) != expected["bytes"]:
            raise UserError(f"{path} is cut short: {size} of {expected['bytes']} bytes: {remedy}")
        budget -= size
        if budget >= 0 and fingerprint(path)["crc32"] != expected["crc32"]:
            raise UserError(f"{path} is damaged (its checksum differs): {remedy}")
