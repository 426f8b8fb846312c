"""Reproduces figures of the paper: does the runs that they need, and draws them.

    python -m experiments.reproduce --figure=4 --preset=cpu --workdir=runs/paper

Figures share histories, models and evaluations. Finished work is skipped, and interrupted work is
resumed. ``--shard=1/3`` does a third of the work, in a workdir that all shards share. When all are
done, the same command without it draws the figures.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import sys
from collections.abc import Mapping

import jax
import numpy as np

from ad_jax.distributed import processes
from ad_jax.errors import UserError
from experiments.runtime import joining

joining.join(sys.argv[1:])  # before what follows: gymnax starts JAX's backend when it is imported

from ad_jax.paths import Path
from data_pipelines.files import growing, write_text_atomically
from experiments.figures import FIGURES, command, work
from experiments.figures.figure import judged
from experiments.figures.presets import SEEDS
from experiments.figures.runs import Results, Run, jobs
from experiments.pictures import style
from experiments.runtime.interruption import Interruption, end_well

PUBLISHED = pathlib.Path(__file__).parents[1] / "docs" / "figures"  # in a clone


def main(arguments: list[str], interruption: Interruption) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.reproduce")
    parser.add_argument(
        "--figure", default="all", help=f"a number from 1 to {max(FIGURES)}, several (3,7), or all"
    )
    options = command.parse(parser, arguments)
    numbers = _figures(options.figure)
    if options.list:
        print("\n".join(listed(numbers, options.preset, options.seeds)))
        return
    command.begin(options, interruption)
    reproduce(numbers, options.preset, options.workdir, interruption, options.seeds, options.shard)


def reproduce(
    numbers: list[int],
    preset: str,
    folder: str | os.PathLike,
    interruption: Interruption,
    seeds: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> None:
    """Does the jobs of the figures, or a share of them, and draws the figures that are complete.

    Args:
      numbers: of the figures.
      preset: "smoke", "cpu" or "paper".
      folder: the workdir of all jobs.
      interruption: checked between and during jobs.
      seeds: number of training seeds; None for the preset's.
      shard: (index, count) of the share, with indices from 0.
    """
    root = work.open_root(folder, preset)
    seeds = SEEDS[preset] if seeds is None else seeds
    runs = {number: FIGURES[number].runs(preset) for number in numbers}
    plan = {
        number: {job.folder: job for run in made.values() for job in jobs(run, seeds)}
        for number, made in runs.items()
    }
    whole = {folder: job for planned in plan.values() for folder, job in planned.items()}
    published: dict[str, float] = {}
    for number, made in runs.items():
        published |= published_seconds(number, preset, made, seeds)
    work.do(root, work.part(list(whole.values()), *shard), interruption, published)
    for number in numbers:
        if missing := sum(not work.is_done(job, root) for job in plan[number].values()):
            work.say(
                f"figure {number} waits for {missing} jobs of other shards: run this again "
                "without --shard when they are done"
            )
        else:
            draw(root, number, preset, runs[number], seeds)


def listed(numbers: list[int], preset: str, seeds: int | None = None) -> list[str]:
    """Text on each figure: its title, the amount of work, and how long that will take.

    The arguments are those of ``reproduce``. Work that figures share counts for each of them.
    """
    seeds = SEEDS[preset] if seeds is None else seeds
    lines = [f"preset {preset}, {style.counted(seeds, 'training seed')}"]
    for number in numbers:
        runs = FIGURES[number].runs(preset)
        found = {job.folder: job for run in runs.values() for job in jobs(run, seeds)}
        published = published_seconds(number, preset, runs, seeds)
        text = work.amount(list(found.values()), published) if found else "drawn"
        lines.append(f"{number:3}  {' '.join(FIGURES[number].title.split())}\n     {text}")
    return lines


def _figures(text: str) -> list[int]:
    if text == "all":
        return list(FIGURES)
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        numbers = [0]
    if unknown := [n for n in numbers if n not in FIGURES]:
        raise UserError(
            f"--figure={text}: there is no such figure{f' ({unknown[0]})' if unknown[0] else ''}: "
            f"give numbers from {min(FIGURES)} to {max(FIGURES)}, or all"
        )
    return numbers


def published_seconds(
    number: int, preset: str, runs: Mapping[str, Run], seeds: int
) -> dict[str, float]:
    """Seconds that a figure's jobs took, by folder, from the results committed to the repository.

    Results of another preset or of another kind of device are not used.
    """
    path = PUBLISHED / f"fig{number:02}.json"
    if not path.exists():
        return {}
    made = json.loads(path.read_text())
    if made["preset"] != preset:
        return {}
    kind = jax.devices()[0].device_kind
    return {
        job.folder: float(np.mean(scale[job.stage]))
        for name, run in runs.items()
        if (scale := made["runs"].get(name, {})).get("device", "").endswith(kind)
        for job in jobs(run, seeds)
        if job.stage in scale
    }


def draw(root: Path, number: int, preset: str, runs: Mapping[str, Run], seeds: int) -> None:
    """Writes figNN.json, figNN.png and figNN.pdf, and prints what the figure says.

    All processes make its panels, since they may need all devices; the first one draws.
    """
    figure = FIGURES[number]
    results = {name: Results(root, run, seeds) for name, run in runs.items()}
    panels = figure.panels(results)
    if not processes.is_first():
        return
    claims = judged(figure, preset, panels)
    made = {
        "figure": number,
        "title": figure.title,
        "preset": preset,
        "seeds": seeds if runs else 0,
        "jax": importlib.metadata.version("jax"),
        "runs": {name: work.scale(results[name]) for name in results},
        "claims": claims,
        "panels": panels,
    }
    folder = root / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    with growing(folder) as (local, _):
        names = style.save(figure.draw(made), local / f"fig{number:02}.png")
    write_text_atomically(folder / f"fig{number:02}.json", json.dumps(made))
    print(f"figure {number}: {figure.title}")
    for claim in claims:
        print(f"  {claim['verdict']}: {claim['claim']}")
    for name in names:
        print(folder / name)


def entry_point() -> None:
    """Runs ``main``."""
    interruption = Interruption()
    end_well(lambda: main(sys.argv[1:], interruption), interruption)


if __name__ == "__main__":
    entry_point()
