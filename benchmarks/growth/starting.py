"""Parts of a start: how long each takes until a first step of training, and the heaviest imports.

The step is made by itself, in a process of its own. ``benchmarks.start`` times the command of a
run, which reads histories and writes metrics as well.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter

from benchmarks.growth import child, fit

PRESET = "dark_room:quickstart"
HEAVIEST = 8  # packages that are named
ROUNDS = 3  # at most: these times hardly differ
PROGRAM = "import experiments.run"


def run(rounds: int) -> list[dict]:
    """Seconds of each part the first time, and again with the programs in JAX's cache."""
    rows = []
    turns = {"first": [], "again": []}
    for _ in range(min(rounds, ROUNDS)):
        with tempfile.TemporaryDirectory() as cache:
            for times in turns.values():
                times.append(_in_a_process(cache))
    for name, times in turns.items():
        parts = {part: fit.spread([each[part] for each in times]) for part in times[0]}
        rows.append({"stage": "growth", "chart": "start", "what": name, "unit": "s",
                     "parts": parts})  # fmt: skip
    rows.append({"stage": "growth", "chart": "start", "what": "imports", "unit": "s",
                 "packages": packages()})  # fmt: skip
    return rows


def _in_a_process(cache: str) -> dict[str, float]:
    return child.answer(
        "benchmarks.growth.starting", time.time(),
        JAX_COMPILATION_CACHE_DIR=cache, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    )  # fmt: skip


def packages() -> dict[str, float]:
    """Seconds of the packages whose own modules take longest to import."""
    command = [sys.executable, "-X", "importtime", "-c", PROGRAM]
    told = subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True).stderr
    seconds: Counter[str] = Counter()
    for line in told.splitlines():
        own, _, name = (part.strip() for part in line.removeprefix("import time:").split("|"))
        if own.isdecimal():  # the first line is a header
            seconds[name.split(".")[0]] += int(own) / 1e6
    return dict(seconds.most_common(HEAVIEST))


def parts(began: float) -> dict[str, float]:
    """Seconds of each part of a start.

    Args:
      began: ``time.time()`` of the parent process when it started this one.
    """
    last = [began]
    made: dict[str, float] = {}

    def done(part: str) -> None:
        now = time.time()
        made[part] = now - last[0]
        last[0] = now

    from ad_jax.distributed import processes

    processes.split_cpu()
    import jax
    import numpy as np

    import experiments.run  # noqa: F401, what is measured
    from benchmarks import presets

    done("Python, imports")
    from ad_jax.distributed import sharding

    config = presets.load(PRESET)
    model, init, update = presets.training(config)
    mesh = sharding.make_mesh()
    replicated, spread_out = sharding.replicated(mesh), sharding.batch_sharding(mesh)
    batch = {k: np.zeros(x.shape, x.dtype) for k, x in presets.batch_shapes(config, model).items()}
    batch = sharding.put(batch, spread_out)
    key = sharding.put(jax.random.key(0), replicated)
    make = jax.jit(init, out_shardings=replicated)
    step = jax.jit(sharding.on_mesh(mesh, update), donate_argnums=0, out_shardings=replicated)
    like = jax.eval_shape(init, key)
    done("objects")
    lowered = make.lower(key), step.lower(like, batch, key)
    done("tracing")
    make, step = (program.compile() for program in lowered)
    done("programs")
    jax.block_until_ready(step(make(key), batch, key))
    done("first step")
    return made


if __name__ == "__main__":
    print(json.dumps(parts(float(sys.argv[1]))))
