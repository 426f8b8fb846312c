"""The index of a shard: where the steps and the episodes of its histories are.

It lies beside the shard, so that a data set of any size is opened without reading its records.
"""

import pathlib
import zipfile
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ad_jax.errors import UserError


class Index(NamedTuple):
    """What is where, of a shard or of a data set; rows are sorted by task, then by stream.

    Attributes:
      task, stream: int32 [rows], of each row.
      records: int32 [rows], how many it has.
      episodes: int32 [rows], how many begin in it.
      record: int [records], the records' numbers in their file, in the order of rows and steps.
      start: int32 [episodes], the steps at which episodes begin, in the order of rows and steps.
    """

    task: np.ndarray
    stream: np.ndarray
    records: np.ndarray
    episodes: np.ndarray
    record: np.ndarray
    start: np.ndarray

    @classmethod
    def of(cls, where: np.ndarray, starts: Sequence[np.ndarray]) -> "Index":
        """The index of records in the order of their file.

        Args:
          where: int32 [records, 3], task, stream and first step of each.
          starts: for each, the steps at which episodes begin, counted from the stream's first.
        """
        order = np.lexsort(where.T[::-1])
        rows, first, records = np.unique(
            where[order, :2], axis=0, return_index=True, return_counts=True
        )
        begun = np.array([len(starts[i]) for i in order], np.int32)
        joined = [np.zeros(0, np.int32), *(starts[i] for i in order)]
        made = (*rows.T, records, np.add.reduceat(begun, first), order, np.concatenate(joined))
        return cls(*(np.ascontiguousarray(values, np.int32) for values in made))

    def save(self, path: pathlib.Path) -> None:
        """Writes it; the same index gives the same bytes."""
        with path.open("wb") as file:
            np.savez(file, **self._asdict())

    @classmethod
    def load(cls, path: pathlib.Path, mend: str) -> "Index":
        """Reads what ``save`` wrote.

        Raises:
          UserError: it is damaged; ``mend`` is what the user can do.
        """
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                return cls(**arrays)
        except (ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{path} is damaged ({error}): {mend}") from error


def joined(parts: Sequence[Index], sizes: Sequence[int]) -> Index:
    """One index of all shards of a data set; only its rows are put in order.

    Args:
      parts: the index of each shard.
      sizes: the records of each shard; numbers of records go on from one to the next.
    """
    offsets = np.cumsum([0, *sizes[:-1]])
    shifted = [p._replace(record=p.record + o) for p, o in zip(parts, offsets, strict=True)]
    return Index(*map(np.concatenate, zip(*shifted, strict=True)))
