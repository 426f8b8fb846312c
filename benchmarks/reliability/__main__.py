"""Kills runs, gives bad input, and writes docs/reliability.md.

    python -m benchmarks.reliability [--kills=200] [--workdir=DIR] [--jobs=2] [--stages=…]

The kills take about an hour on two cores, the bad inputs five minutes. After an interruption, the
same command resumes.
"""

import argparse
import json
import pathlib
import subprocess
import sys

from absl import logging

from benchmarks.reliability import page
from benchmarks.reliability.kills import ROOT, campaign

STAGES = ("kills", "inputs", "page")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability")
    parser.add_argument("--kills", type=int, default=200, help="total number of kills")
    parser.add_argument("--workdir", type=pathlib.Path, default="runs/reliability")
    parser.add_argument("--jobs", type=int, default=2, help="number of runs at once")
    parser.add_argument("--stages", default=",".join(STAGES), help="parts to do")
    options = parser.parse_args()
    stages = options.stages.split(",")
    if unknown := set(stages) - set(STAGES):
        parser.error(f"--stages={','.join(sorted(unknown))}: choose from {','.join(STAGES)}")
    logging.set_verbosity(logging.ERROR)  # Orbax warns of files that it need not have
    folder = options.workdir.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    results = json.loads(page.RESULTS.read_text()) if page.RESULTS.exists() else {}
    if "kills" in stages:
        lines = campaign(options.kills, folder, options.jobs).read_text().splitlines()
        results["trials"] = [json.loads(line) for line in lines]
        _store(results)
    if "inputs" in stages:
        said = folder / "inputs.json"
        command = [sys.executable, "-m", "benchmarks.reliability.bad_inputs"]
        subprocess.run([*command, str(folder), str(said)], cwd=ROOT, check=True)
        results["inputs"] = json.loads(said.read_text())
        _store(results)
    if "page" in stages:
        page.write()
        print(page.PAGE)


def _store(results: dict) -> None:
    page.RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
