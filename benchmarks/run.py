"""Times collection, training, evaluation and rendering; prints a table and stores it as JSON.

    python -m benchmarks.run [--quick] [--device=cpu|gpu] [--stages=collect,train,…] [--output=FILE]

The peers need the extra "bench"; rejax, an environment of its own (see the Makefile). Run it when
nothing else runs.
"""

import argparse
import functools
import json
import os
import pathlib
import platform
import sys

import jax

from ad_jax import parallel

parallel.split_cpu()  # before what follows: gymnax starts JAX's backend when it is imported

from benchmarks import collect, data, evaluate, render, start, train, utilisation
from experiments.memory import keep_freed_memory

STAGES = {
    "collect": collect.run,
    "train": train.run,
    "evaluate": evaluate.run,
    "render": render.run,
    "model": utilisation.run,
    "data": data.run,
    "start": start.run,
}
# In which the longer contexts, and what compiles for minutes, are left out.
QUICK = {
    "train": functools.partial(train.run, contexts=(80,), forms=2),
    "evaluate": functools.partial(evaluate.run, contexts=(60,)),
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, short contexts")
    parser.add_argument("--device", help="what it must run on: cpu or gpu")
    parser.add_argument("--stages", default=",".join(STAGES), help="what to time")
    parser.add_argument("--output", default="runs/benchmarks.json", help="where the table goes")
    options = parser.parse_args(arguments)
    stages = options.stages.split(",")
    if unknown := set(stages) - set(STAGES):
        parser.error(f"--stages={','.join(sorted(unknown))}: choose from {','.join(STAGES)}")

    if options.device not in (None, jax.default_backend()):
        parser.error(f"--device={options.device}: JAX has found {jax.devices()}")

    keep_freed_memory()
    rounds, work = (4, STAGES | QUICK) if options.quick else (9, STAGES)
    lines = []
    for stage in stages:
        for line in work[stage](rounds):
            lines.append(line)
            print(describe(line), flush=True)
    result = {
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} cores",
        "machine": platform.machine(),
        "jax": jax.__version__,
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", ""),
        "rounds": rounds,
        "rows": lines,
    }
    path = pathlib.Path(options.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1))
    print(path)


def describe(line: dict) -> str:
    """One line of the table as text."""
    if "per_second" not in line:
        numbers = [
            f"{k.replace('_', ' ')} {v:.2f}" for k, v in line.items() if k not in ("stage", "what")
        ]
        return f"{line['stage']:<9}{line['what']}: {', '.join(numbers)}"
    text = f"{line['stage']:<9}{line['per_second']:>12,.0f} {line['unit']}/s  {line['what']}"
    spread = "{median:.2f} [{low:.2f}, {high:.2f}]".format
    if ratio := line.get("first_is_times"):
        text += f"; ad_jax is {spread(**ratio)} times as fast"
    if share := line.get("share"):
        text += f"; {spread(**share)} of a matrix product's FLOP/s"
    return text


if __name__ == "__main__":
    main(sys.argv[1:])
