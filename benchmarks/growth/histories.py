"""A data set against its size on disk: the time and memory to open it, and random windows.

All shards of a data set are links to one file; see ``shards``. So the index has its full size, and
any record can be read, but reads are served from the system's page cache: the time of a window is
that of the program, not of a disk.
"""

import functools
import json
import os
import pathlib
import sys
import tempfile
import time
import tracemalloc

import numpy as np

from benchmarks.growth import child, fit, shards

SIZES = (1e7, 1e8, 1e9, 1e10, 1e11)
SHARD = 1e8  # bytes, at most
FILES = 1000  # at most
WINDOW, BATCH, BATCHES = 80, 64, 20


def run(rounds: int, sizes: tuple[float, ...] = SIZES) -> list[dict]:
    """Seconds and memory to open, and the time of a window."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        shard = functools.cache(lambda size: shards.write(folder / f"shard_{size:.0f}", size))
        folders = [folder / f"{size:.0f}" for size in sizes]
        given = [
            shards.repeated(shard(min(size, SHARD)), path, max(1, round(size / SHARD)), os.link)
            for size, path in zip(sizes, folders, strict=True)
        ]
        found = [child.answer("benchmarks.growth.histories", *folders) for _ in range(rounds)]
    of = lambda i: [[values[i] for values in turn] for turn in found]
    fixed, linear = [1] * len(sizes), given
    line = lambda *texts, values, law, why: fit.row(
        fit.Line("histories", *texts, "bytes", given, values, law, why)
    )
    return [
        line("time to open", "s", values=of(0), law=linear, why="rows of the index"),
        line("memory that this takes", "MB", values=of(1), law=linear, why="rows of the index"),
        line("time of a random window", "µs", values=of(2), law=fixed, why="nothing"),
    ]


def measure(folder: str) -> tuple[float, float, float]:
    """(seconds to open, peak MB to open, µs per window afterwards).

    The memory is that of NumPy and Python, counted while the data set is opened a second time: it
    has no noise, and does not include what is loaded when a data set is opened for the first time.
    """
    from data_pipelines.reader import Histories, Selection
    from data_pipelines.windows import make_reader, make_sampler

    selection = Selection()
    draws = {"selection": selection, "context": WINDOW, "batch_size": BATCH, "seed": 0}

    def opened():
        histories = Histories(folder)
        sampler = make_sampler(histories, **draws)
        return histories, make_reader(histories, sampler, selection)

    began = time.perf_counter()
    histories, read = opened()
    seconds_to_open = time.perf_counter() - began
    tracemalloc.start()
    opened()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    rows = np.linspace(0, len(histories.task) - 1, min(len(histories.task), FILES)).astype(int)
    histories.read(rows, np.zeros_like(rows))  # opens the files
    first = time.perf_counter()
    for step in range(BATCHES):
        read(step)
    seconds = time.perf_counter() - first
    return seconds_to_open, peak / 1e6, 1e6 * seconds / (BATCHES * BATCH)


if __name__ == "__main__":
    measure(sys.argv[1])  # what is loaded and allocated at first is not counted
    print(json.dumps([measure(folder) for folder in sys.argv[1:]]))
