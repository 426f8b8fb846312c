"""Training on a data set larger than memory, compared with training from device memory.

The process that trains from disk may allocate at most half of the bytes of the data set, including
its threads' stacks and programs (RLIMIT_DATA; a control group would need rights that a user may not
have). The system's page cache is not limited by that, so it is dropped every half second, and reads
go to the disk. The shards are copies of one, each with its own bytes on the disk.
"""

import contextlib
import functools
import pathlib
import resource
import sys
import tempfile
import threading

import numpy as np

from ad_jax.distributed import processes

if __name__ == "__main__":
    processes.split_cpu()  # before what follows: gymnax starts JAX's backend when it is imported

from benchmarks import peers, presets
from benchmarks.growth import fit, shards
from benchmarks.timing import interleave

PRESET = "dark_room:quickstart"
SIZE, SHARD = 6e9, 1e8  # bytes
SMALL = 1e7  # bytes of the data set in the memory of the devices
STEPS = 100  # of training, in a round
FORGET_SECONDS = 0.5
DISK, MEMORY = "disk", "device"
MODULE = "benchmarks.growth.limited"


def run(rounds: int, size: float = SIZE) -> list[dict]:
    """One row: the speed relative to training from device memory, and the memory used."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        shards.write(folder / "small", SMALL)
        one = shards.write(folder / "one", SHARD)
        stored = shards.repeated(one, folder / "large", round(size / SHARD), shards.copy)
        allowed = stored // 2
        given = {DISK: (folder / "large", allowed), MEMORY: (folder / "small", 0)}
        with contextlib.ExitStack() as running:
            ask = {
                name: running.enter_context(peers.start(MODULE, name, *of))
                for name, of in given.items()
            }
            running.enter_context(forgotten(folder / "large"))
            turns = {name: functools.partial(each, "work") for name, each in ask.items()}
            seconds = interleave(turns, rounds)
            peak, read = map(float, ask[DISK]("memory").split())
    config = presets.load(PRESET)
    transitions = STEPS * config.train.batch_size * config.model.context
    return [{
        "stage": "growth", "chart": "larger than memory", "what": f"{PRESET}, windows from disk",
        "unit": "transitions", "per_second": transitions / float(np.median(seconds[DISK])),
        "of_the_speed_from_memory": fit.spread(seconds[MEMORY] / seconds[DISK]),
        "gb_stored": stored / 1e9, "gb_allowed": allowed / 1e9, "gb_peak": peak, "gb_read": read,
    }]  # fmt: skip


class forgotten(threading.Thread):
    """A context in which a folder's files are dropped from the page cache again and again."""

    def __init__(self, folder: pathlib.Path):
        super().__init__(daemon=True)
        self._files, self._left = list(folder.iterdir()), threading.Event()

    def run(self) -> None:
        while not self._left.wait(FORGET_SECONDS):
            for file in self._files:
                shards.forget(file)

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_) -> None:
        self._left.set()
        self.join()


def trainer(windows: str, folder: str):
    """A function that makes some steps of training, as the stage makes them."""
    import jax

    from ad_jax import build
    from ad_jax.distributed import sharding
    from data_pipelines.reader import Histories
    from experiments.runtime.memory import keep_freed_memory
    from experiments.runtime.seeds import Seeds
    from experiments.runtime.workdir import Folders
    from experiments.stages import train

    keep_freed_memory()
    config = presets.load(PRESET)
    config.train.windows = windows
    world, path = build.world(config), pathlib.Path(folder)
    everything = world._replace(train=np.unique(Histories(path).task))
    feed = train.window_feed(config, Folders(path.parent, histories=path), everything)
    mesh = sharding.make_mesh(**config.mesh)
    method, seeds = build.method(config, world), Seeds(config, mesh)
    init = lambda key: method.init(key, None)
    key = build.key(config, "initialise", config.seed)
    shardings = seeds.shardings(jax.eval_shape(init, key), build.sharding_rules(config))
    box = {"state": seeds.init(init, [(key,)], shardings)}
    step = train.make_step(config, mesh, method, feed, seeds, shardings)
    batches = feed.inputs(config.seed, 0)

    def work() -> None:
        for _ in range(STEPS):
            inputs = sharding.put(next(batches), seeds.inputs_sharding())
            box["state"], metrics = step(box["state"], inputs)
        jax.block_until_ready(metrics)

    return work


def memory() -> str:
    """This process's peak memory and what it has read from disk, both in GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    read = pathlib.Path("/proc/self/io").read_text().split("read_bytes:")[1].split()[0]
    return f"{peak} {int(read) / 1e9}"


if __name__ == "__main__":
    if allowed := int(sys.argv[3]):
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
    peers.serve("ad_jax", {"work": ({}, trainer(*sys.argv[1:3]))}, {"memory": memory})
