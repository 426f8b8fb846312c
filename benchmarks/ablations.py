"""The effect of each setting of a preset: the preset, and variants with one choice changed.

    python -m benchmarks.ablations [--runs=runs/ablations] [--rows=quickstart,ppo,…] [--output=FILE]

Every row is three runs, with training seeds 0, 1 and 2, one after the other, tested on validation
tasks. Finished runs are not repeated.
"""

import argparse
import json
import pathlib
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np

from ad_jax.evaluation.statistics import confidence_interval, last_tenth
from experiments import compare

CONFIG = "experiments/configs/dark_room.py:quickstart"
SEEDS = (0, 1, 2)
# PPO as a source, with the settings that suit it.
PPO = {
    "source.name": "ppo", "source.ppo.num_streams": 64, "collect.updates": 100,
    "collect.updates_per_chunk": 20, "train.keep_every": 10,
}  # fmt: skip


class Row(NamedTuple):
    """What is changed, in words and in the config."""

    title: str
    changes: dict[str, Any]


ROWS = {
    "quickstart": Row("quickstart", {}),
    "ppo": Row("PPO as the source, every 10th of 100 episodes", PPO),
    "subsampled": Row(
        "every second episode of 24, context 80",
        {
            "collect.updates": 24, "train.keep_every": 2, "model.context": 80,
            "train.batch_size": 72,
        },
    ),
    "short": Row("context 80", {"model.context": 80, "train.batch_size": 72}),
    "no_mask": Row("no input mask", {"model.mask_probability": 0.0}),
    "more_mask": Row("input mask 0.5", {"model.mask_probability": 0.5}),
    "no_decay": Row("no weight decay", {"optimizer.weight_decay": 0.0}),
    "smoothing": Row("label smoothing 0.1", {"train.label_smoothing": 0.1}),
    "slow": Row("learning rate 0.001", {"optimizer.learning_rate": 1e-3}),
    "muon": Row("Muon", {"optimizer.name": "muon"}),
    "layers": Row("3 layers", {"model.num_layers": 3}),
}  # fmt: skip


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablations")
    parser.add_argument("--runs", default="runs/ablations", help="folder of the workdirs")
    parser.add_argument("--rows", default=",".join(ROWS), help="rows to measure")
    parser.add_argument("--config", default=CONFIG, help="config and preset to change")
    parser.add_argument("--output", default="runs/ablations.json", help="file for the table")
    options = parser.parse_args(arguments)
    rows = options.rows.split(",")
    if unknown := set(rows) - set(ROWS):
        parser.error(f"--rows={','.join(sorted(unknown))}: choose from {','.join(ROWS)}")
    output = pathlib.Path(options.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    table: dict[str, Any] = {"preset": options.config, "rows": []}
    for name in rows:
        row = measure(options.config, pathlib.Path(options.runs), name)
        low, high = row["ci95"]
        print(f"{row['final']:.2f} [{low:.2f}, {high:.2f}]  {row['title']}", flush=True)
        table["rows"].append(row)
        output.write_text(json.dumps(table, indent=1) + "\n")


def measure(config: str, runs: pathlib.Path, name: str) -> dict[str, Any]:
    """A row: runs what is not there yet, and sums up all seeds.

    Args:
      config: of the preset, as a command line has it.
      runs: a folder of workdirs.
      name: a key of ``ROWS``.

    Returns:
      ``curve`` [seed, episode], normalised returns; ``final``, their mean over the last tenth of
      the episodes, with its ``ci95``; ``below_half``, the fraction of rollouts below 0.5 there;
      ``seconds`` of each stage, means over the seeds; and the device and versions of the first run.
    """
    title, changes = ROWS[name]
    folders = [runs / f"{name}-{seed}" for seed in SEEDS]
    for seed, folder in zip(SEEDS, folders, strict=True):
        settings = {"evaluation.tasks": "validation", **changes, "seed": seed}
        flags = [f"--config.{key}={value}" for key, value in settings.items()]
        command = [sys.executable, "-m", "experiments.run", f"--config={config}"]
        command += [f"--workdir={folder}", *flags]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {"title": title, "changes": changes, **summary(folders)}


def summary(folders: list[pathlib.Path]) -> dict[str, Any]:
    """Of the runs of all seeds; see ``measure``."""
    scores, _, _ = compare.gather([f"row={folder}" for folder in folders])
    final = last_tenth(scores["row"]).mean(-1)  # [seed, task, rollout]
    told = [json.loads((folder / "report/summary.json").read_text()) for folder in folders]
    seconds = [of_run["seconds"] for of_run in told]
    return {
        **{name: told[0][name] for name in ("device", "version", "commit", "jax")},
        "curve": scores["row"].mean((1, 2)).tolist(),
        "final": float(final.mean()),
        "ci95": confidence_interval(final).tolist(),
        "below_half": float((final < 0.5).mean()),
        "seconds": {stage: float(np.mean([s[stage] for s in seconds])) for stage in seconds[0]},
    }


if __name__ == "__main__":
    main(sys.argv[1:])
