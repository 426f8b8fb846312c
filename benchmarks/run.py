"""Times collection, training, evaluation and rendering; prints a table and stores it as JSON.

    python -m benchmarks.run [--quick] [--device=cpu|gpu] [--stages=collect,train,…] [--output=FILE]

The rows to compare with PyTorch need the extra "bench". Run it when nothing else runs.
"""

import argparse
import json
import os
import pathlib
import platform
import sys

import jax

from benchmarks import collect, evaluate, render, train, utilisation
from experiments.memory import keep_freed_memory

STAGES = {
    "collect": collect.run,
    "train": train.run,
    "evaluate": evaluate.run,
    "render": render.run,
    "model": utilisation.run,
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
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
    rounds = 4 if options.quick else 9
    lines = []
    for stage in stages:
        for line in STAGES[stage](rounds):
            lines.append(line)
            print(describe(line), flush=True)
    result = {
        "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores",
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
    text = f"{line['stage']:<9}{line['per_second']:>12,.0f} {line['unit']}/s  {line['what']}"
    if ratio := line.get("ratio"):
        text += f": {ratio['median']:.2f} x {ratio['to']} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
    return text


if __name__ == "__main__":
    main(sys.argv[1:])
