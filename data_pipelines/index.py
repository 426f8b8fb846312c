"""The index of a shard: where the steps and the episodes of its histories are.

It is stored beside the shard, so a data set of any size can be opened without reading its records.
"""

import pathlib
import zipfile
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ad_jax.errors import UserError


class Index(NamedTuple):
    """Where the records and episodes of a shard, or of a whole data set, are.

    A row is one stream of one task. Within a shard, rows are sorted by task, then by stream.
    Consecutive episodes of equal length are a *run*, so if all episodes of an environment have the
    same length, the index does not grow with their number. The last episode of a row, which may be
    cut off, is a run of its own.

    Attributes:
      task, stream: int32 [rows], the task and the stream of each row.
      records: int32 [rows], number of records in each row.
      runs: int32 [rows], number of runs in each row.
      record: int [records], number of each record in the shard or the data set, in the order of
        rows and steps.
      begin: int32 [runs], the first step of each run, in the order of rows and steps.
      count: int32 [runs], number of episodes in each run.
    """

    task: np.ndarray
    stream: np.ndarray
    records: np.ndarray
    runs: np.ndarray
    record: np.ndarray
    begin: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, where: np.ndarray, starts: Sequence[np.ndarray]) -> "Index":
        """The index of records in the order of their file.

        Args:
          where: int32 [records, 3], task, stream and first step of each record.
          starts: for each record, the steps at which episodes begin, counted from the beginning
            of the stream.
        """
        order = np.lexsort(where.T[::-1])
        rows, row_of, records = np.unique(
            where[order, :2], axis=0, return_inverse=True, return_counts=True
        )
        row = np.repeat(row_of.ravel(), [len(starts[i]) for i in order])
        start = np.concatenate([np.zeros(0, np.int32), *(starts[i] for i in order)])
        # Of the last episode of a row, the length is not known here.
        length = np.append(np.where(np.diff(row) == 0, np.diff(start), -1), -1)[: len(start)]
        new = np.append(True, (np.diff(row) > 0) | (np.diff(length) != 0))[: len(start)]
        first = np.flatnonzero(new)
        runs = np.bincount(row[first], minlength=len(rows))
        count = np.diff(np.append(first, len(start)))
        made = (*rows.T, records, runs, order, start[first], count)
        return cls(*(np.ascontiguousarray(values, np.int32) for values in made))

    def save(self, path: pathlib.Path) -> None:
        """Writes it; the same index gives the same bytes."""
        with path.open("wb") as file:
            np.savez(file, **self._asdict())

    @classmethod
    def load(cls, path: pathlib.Path, remedy: str) -> "Index":
        """Reads what ``save`` wrote.

        Raises:
          UserError: it is damaged; ``remedy`` tells the user what to do.
        """
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                return cls(**arrays)
        except (ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{path} is damaged ({error}): {remedy}") from error


def joined(parts: Sequence[Index], sizes: Sequence[int]) -> Index:
    """Concatenates the indexes of all shards of a data set; rows stay in the order of the shards.

    Args:
      parts: the index of each shard.
      sizes: number of records in each shard; record numbers continue from one to the next.
    """
    offsets = np.cumsum([0, *sizes[:-1]])
    shifted = [p._replace(record=p.record + o) for p, o in zip(parts, offsets, strict=True)]
    return Index(*map(np.concatenate, zip(*shifted, strict=True)))
