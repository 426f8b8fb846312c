"""Collection against the number of tasks: the stage as it is run, into a folder.

Adversarial bandits, of which there are as many as one asks for, with the tiles of their preset.
"""

import contextlib
import pathlib
import resource
import sys
import tempfile
import time

import jax
import numpy as np

from ad_jax.distributed import processes

if __name__ == "__main__":
    processes.split_cpu()  # before what follows: gymnax starts JAX's backend when it is imported

from benchmarks import peers, presets
from benchmarks.growth import fit

PRESET = "adversarial_bandit:cpu"
TASKS = (1, 10, 100, 1000, 10_000, 100_000)


def run(rounds: int, tasks: tuple[int, ...] = TASKS) -> list[dict]:
    """Seconds and memory of the whole stage. Memory is that of a process that ends with it."""
    with tempfile.TemporaryDirectory() as cache:
        turns = [_turn(tasks, cache) for _ in range(1 + rounds)][1:]  # the first one compiles
    seconds, memory = np.moveaxis(np.array(turns), -1, 0)
    config = presets.load(PRESET)
    tile = config.collect.tasks_per_tile
    return [
        fit.row(fit.Line(
            "collect", "time of the stage", "s", "tasks", tasks, seconds, tasks, "tasks",
        )),
        fit.row(fit.Line(
            "collect", "peak memory", "MiB", "tasks", tasks, memory,
            [1 + min(n, 2 * tile) / tile for n in tasks], f"tiles of {tile} tasks at once",
        )),
    ]  # fmt: skip


def _turn(tasks: tuple[int, ...], cache: str) -> list[tuple[float, float]]:
    """(seconds, MiB) of each number of tasks, in ascending order, in a process of its own."""
    ask = peers.start("benchmarks.growth.collecting", cache, *tasks)
    return [tuple(map(float, ask(str(n)).split())) for n in tasks]


def collect(tasks: int) -> float:
    """Seconds to collect so many tasks."""
    from experiments.runtime.interruption import Interruption
    from experiments.runtime.workdir import Folders
    from experiments.stages import collect as stage

    config = presets.load(PRESET)
    config.tasks.num_train = tasks
    config.collect.min_improved = 0.0  # one bandit alone may well end worse than it began
    # The stage's own words are no answer.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        began = time.perf_counter()
        stage.run(config, Folders(pathlib.Path(folder)), Interruption())
        return time.perf_counter() - began


def serve(cache: str, *tasks: str) -> None:
    """Answers each number of tasks with seconds, and with MiB: the most so far."""
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    answer = lambda n: f"{collect(int(n))} {peak()}"
    peers.serve({n: lambda n=n: answer(n) for n in tasks})


if __name__ == "__main__":
    serve(*sys.argv[1:])
