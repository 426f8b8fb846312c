"""Collection against the number of tasks: the stage as it is run, into a folder.

The tasks are adversarial bandits, whose number is not limited, with the tile size of their preset.
"""

import contextlib
import json
import pathlib
import resource
import sys
import tempfile
import time

import numpy as np

from ad_jax.distributed import processes

if __name__ == "__main__":
    processes.split_cpu()  # before what follows: gymnax starts JAX's backend when it is imported

from benchmarks import presets
from benchmarks.growth import child, fit

PRESET = "adversarial_bandit:cpu"
TASKS = (1, 10, 100, 1000, 10_000, 100_000)


def run(rounds: int, tasks: tuple[int, ...] = TASKS) -> list[dict]:
    """Seconds and memory of the whole stage; memory is the peak of a process that only collects."""
    with tempfile.TemporaryDirectory() as cache:
        turn = lambda: child.answer(
            "benchmarks.growth.collecting", *tasks,
            JAX_COMPILATION_CACHE_DIR=cache, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        )  # fmt: skip
        turns = [turn() for _ in range(1 + rounds)][1:]  # the first one compiles
    seconds, memory = np.moveaxis(np.array(turns), -1, 0)
    return [
        fit.row(fit.Line(
            "collect", "time of the stage", "s", "tasks", tasks, seconds, tasks, "tasks",
        )),
        fit.row(fit.Line(
            "collect", "peak memory", "MiB", "tasks", tasks, memory, [1] * len(tasks),
            "nothing, but for a tile on each device",
        )),
    ]  # fmt: skip


def collect(tasks: int) -> float:
    """Seconds to collect so many tasks."""
    from experiments.runtime.interruption import Interruption
    from experiments.runtime.workdir import Folders
    from experiments.stages import collect as stage

    config = presets.load(PRESET)
    config.tasks.num_train = tasks
    config.collect.min_improved = 0.0  # one bandit alone may well end worse than it began
    # The stage's own output must not be taken for the answer.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        began = time.perf_counter()
        stage.run(config, Folders(pathlib.Path(folder)), Interruption())
        return time.perf_counter() - began


def measure(tasks: list[int]) -> list[tuple[float, float]]:
    """(seconds, MiB at most so far) of each number of tasks, in ascending order."""
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return [(collect(number), peak()) for number in tasks]


if __name__ == "__main__":
    print(json.dumps(measure(list(map(int, sys.argv[1:])))))
