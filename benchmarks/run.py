"""Times collection, training, evaluation and rendering; prints a table and stores it as JSON.

    python -m benchmarks.run [--quick] [--device=cpu|gpu] [--stages=collect,train,…] [--output=FILE]

Each stage runs in a process of its own, so one that fails costs the others nothing; the table is
stored after every stage. The peers need the extra "bench"; rejax, an environment of its own (see
the Makefile). Run it when nothing else runs.
"""

import argparse
import importlib
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

from ad_jax.distributed import processes

STAGES = (
    "collect", "train", "evaluate", "render", "utilisation", "data", "checkpoints", "start",
    "cores", "growth",
)  # fmt: skip
# Longer contexts, and what compiles for minutes, are left out.
QUICK = {
    "train": {"contexts": (80,)},
    "evaluate": {"contexts": (60,)},
    "cores": {"contexts": (200,)},
    "growth": {"small": True},
}
ROUNDS = 5  # in each of which all take turns


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run")
    parser.add_argument("--quick", action="store_true", help="short contexts, small sizes")
    parser.add_argument("--device", help="device that it must run on: cpu or gpu")
    parser.add_argument("--stages", default=",".join(STAGES), help="stages to time")
    parser.add_argument("--output", default="runs/benchmarks.json", help="file for the table")
    options = parser.parse_args(arguments)
    stages = options.stages.split(",")
    if unknown := set(stages) - set(STAGES):
        parser.error(f"--stages={','.join(sorted(unknown))}: choose from {','.join(STAGES)}")
    path = pathlib.Path(options.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    if len(stages) == 1:
        store(path, time_stage(stages[0], options.quick, options.device))
        return

    tables, failed, seconds = [], [], {}
    for stage in stages:
        began = time.perf_counter()
        table = in_a_process(stage, arguments, path.with_suffix(f".{stage}.json"))
        seconds[stage] = time.perf_counter() - began
        if table is None:
            failed.append(stage)
        else:
            tables.append(table)
        joined = tables[0] if tables else {}
        rows = [row for table in tables for row in table["rows"]]
        store(path, {**joined, "seconds": seconds, "failed": failed, "rows": rows})
    print(path)
    if failed:
        sys.exit(f"error: failed: {', '.join(failed)}; the rows of the others are in {path}")


def store(path: pathlib.Path, table: dict) -> None:
    """Writes a table."""
    path.write_text(json.dumps(table, indent=1))


def time_stage(stage: str, quick: bool, device: str | None) -> dict:
    """The table of one stage, whose rows are printed as well."""
    processes.split_cpu()  # before what follows: gymnax starts JAX's backend when it is imported
    import jax

    from experiments.runtime import version
    from experiments.runtime.memory import keep_freed_memory

    if device not in (None, jax.default_backend()):
        sys.exit(f"error: --device={device}: JAX has found {jax.devices()}")
    keep_freed_memory()
    run = importlib.import_module(f"benchmarks.{stage}").run
    rows = run(ROUNDS, **(QUICK.get(stage, {}) if quick else {}))
    for row in rows:
        print(describe(row), flush=True)
    return {
        "device": f"{version.devices()}, {os.cpu_count()} cores",
        "machine": platform.machine(),
        "jax": jax.__version__,
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", ""),
        "rounds": ROUNDS,
        "rows": rows,
    }


def in_a_process(stage: str, arguments: list[str], output: pathlib.Path) -> dict | None:
    """The table of one stage; None if it failed, even by the death of its process."""
    command = [sys.executable, "-m", "benchmarks.run", *arguments]
    status = subprocess.run([*command, f"--stages={stage}", f"--output={output}"]).returncode
    if status:
        print(f"{stage:<9}FAILED with status {status}", flush=True)
        return None
    table = json.loads(output.read_text())
    output.unlink()
    return table


def describe(line: dict) -> str:
    """One line of the table as text."""
    if why := line.get("left_out"):
        return f"{line['stage']:<9}{line['what']} is left out: {why}"
    if line["stage"] == "growth":
        return importlib.import_module("benchmarks.growth.fit").describe(line)
    if "per_second" not in line:
        numbers = [
            f"{k.replace('_', ' ')} {v:.2f}" for k, v in line.items() if k not in ("stage", "what")
        ]
        return f"{line['stage']:<9}{line['what']}: {', '.join(numbers)}"
    text = f"{line['stage']:<9}{line['per_second']:>12,.0f} {line['unit']}/s  {line['what']}"
    spread = "{median:.2f} [{low:.2f}, {high:.2f}]".format
    if setting := line.get("setting"):
        text += f" ({', '.join(f'{k} {v}' for k, v in setting.items())})"
    if ratio := line.get("ours_is_times"):
        text += f"; ours is {spread(**ratio)} times as fast"
    if share := line.get("share"):
        text += f"; {spread(**share)} of a matrix product's FLOP/s"
    return text


if __name__ == "__main__":
    main(sys.argv[1:])
