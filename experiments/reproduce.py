"""Reproduces figures of the paper: runs what they are made of, and draws them.

    python -m experiments.reproduce --figure=4 --preset=cpu --workdir=runs/paper

Figures share histories, models and evaluations; what is done is skipped, and what was interrupted
goes on. ``--shard=1/3`` does a third of the work, in a workdir that is shared with the others; the
same command without it draws.
"""

import argparse
import contextlib
import importlib.metadata
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from matplotlib.ticker import EngFormatter

from ad_jax.distributed import processes
from ad_jax.errors import UserError
from experiments.runtime import joining

joining.join(sys.argv[1:])  # before what follows: gymnax starts JAX's backend when it is imported

from ad_jax import build
from ad_jax.paths import Path, as_path, reason
from data_pipelines.files import growing, read_json, write_text_atomically
from experiments import pipeline, validation
from experiments.figures import FIGURES
from experiments.figures.figure import judged
from experiments.figures.presets import SEEDS
from experiments.figures.runs import PRESETS, STAGES, Job, Results, Run, jobs
from experiments.pictures import style
from experiments.runtime import logs, memory, version
from experiments.runtime.interruption import Interruption, end_well
from experiments.runtime.workdir import InUse

PUBLISHED = pathlib.Path(__file__).parents[1] / "docs" / "figures"  # in a clone
_SECONDS = "seconds.json"  # in a job's folder: how long it took
UNITS = (" steps to collect", " transitions to train on", " steps to evaluate")
_PATIENCE = 5.0  # seconds between two looks at what another process does


def main(arguments: list[str], interruption: Interruption) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.reproduce")
    parser.add_argument("--figure", default="all", help="a number from 1 to 16, several, or all")
    parser.add_argument("--list", action="store_true", help="say what there is to do, and stop")
    parser.add_argument("--preset", default="cpu", help=", ".join(PRESETS))
    parser.add_argument("--workdir", help="where all of it goes")
    parser.add_argument("--seeds", type=int, help="of training, in place of the preset's")
    parser.add_argument("--shard", default="1/1", help="i/n: the i-th of n parts of the work")
    parser.add_argument("--verbosity", type=int, help="of the log: 1 debug, 0 info, -1 warning, …")
    options = parser.parse_args(arguments)
    numbers = _figures(options.figure)
    if options.preset not in PRESETS:
        raise UserError(f"--preset={options.preset}: choose one of {', '.join(PRESETS)}")
    if options.seeds is not None and options.seeds < 1:
        raise UserError(f"--seeds={options.seeds}: give one or more")
    shard = _shard(options.shard)
    if options.list:
        print("\n".join(listed(numbers, options.preset, options.seeds)))
        return
    if not options.workdir:
        raise UserError("give --workdir, where all of it goes, or --list")
    interruption.install()
    memory.keep_freed_memory()
    logs.set_level(options.verbosity)
    say(version.line(options.workdir))
    reproduce(numbers, options.preset, options.workdir, interruption, options.seeds, shard)


def reproduce(
    numbers: list[int],
    preset: str,
    folder: str | os.PathLike,
    interruption: Interruption,
    seeds: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> None:
    """Does what the figures are made of, or a share of it, and draws those that are complete.

    Args:
      numbers: of the figures.
      preset: "smoke", "cpu" or "paper".
      folder: where all of it goes.
      interruption: is asked between and within jobs.
      seeds: of training; None for the preset's.
      shard: (index, count) of the share.
    """
    root = _root(folder, preset)
    seeds = SEEDS[preset] if seeds is None else seeds
    cache = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if not cache:  # runs of a figure compile much the same
        jax.config.update("jax_compilation_cache_dir", str(root / "compiled"))

    runs = {number: FIGURES[number].runs(preset) for number in numbers}
    plan = {
        number: {job.folder: job for run in made.values() for job in jobs(run, seeds)}
        for number, made in runs.items()
    }
    whole = {folder: job for planned in plan.values() for folder, job in planned.items()}
    published: dict[str, float] = {}
    for number, made in runs.items():
        published |= published_seconds(number, preset, made, seeds)
    do(root, part(list(whole.values()), *shard), interruption, published)
    for number in numbers:
        if missing := sum(not _is_done(job, root) for job in plan[number].values()):
            say(f"figure {number} waits for {missing} jobs of other shards: run this once more "
                "without --shard when they are done")  # fmt: skip
        else:
            draw(root, number, preset, runs[number], seeds)


def listed(numbers: list[int], preset: str, seeds: int | None = None) -> list[str]:
    """A line for each figure: what it is made of, how much that is, and how long it will take.

    Arguments are those of ``reproduce``. What figures share counts in each of them.
    """
    seeds = SEEDS[preset] if seeds is None else seeds
    lines = [f"preset {preset}, {style.counted(seeds, 'training seed')}"]
    for number in numbers:
        runs = FIGURES[number].runs(preset)
        found = {job.folder: job for run in runs.values() for job in jobs(run, seeds)}
        published = published_seconds(number, preset, runs, seeds)
        of_stage = {stage: [j for j in found.values() if j.stage == stage] for stage in STAGES}
        work = ", ".join(
            f"{EngFormatter(places=1, sep=' ')(sum(job.work for job in some))}{unit}"
            for (stage, some), unit in zip(of_stage.items(), UNITS, strict=True)
            if some
        )
        time = remaining(list(found.values()), partial(_estimate, rates={}, published=published))
        text = f"{style.counted(len(found), 'job')} ({work}): {time}" if found else "drawn"
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


def _shard(text: str) -> tuple[int, int]:
    try:
        index, count = map(int, text.split("/"))
        if 1 <= index <= count:
            return index - 1, count
    except ValueError:
        pass
    raise UserError(f"--shard={text}: give i/n with i from 1 to n, for example 1/4")


def _root(folder: str | os.PathLike, preset: str) -> Path:
    """The workdir, which remembers its preset."""
    if not os.fspath(folder):
        raise UserError("--workdir= is empty: give a folder")
    root = as_path(folder)
    path = root / "reproduce.json"
    try:
        root.mkdir(parents=True, exist_ok=True)
        if processes.is_first() and not path.exists():
            write_text_atomically(path, json.dumps({"preset": preset}))
    except OSError as error:
        raise UserError(
            f"--workdir={folder} can't be used ({reason(error)}): give another folder"
        ) from error
    processes.barrier("reproduce")
    stored = read_json(path, "remove it, and the preset given is taken to be this folder's")
    if stored["preset"] != preset:
        raise UserError(
            f"{root} holds results of the preset {stored['preset']}, not of {preset}: give another "
            f"--workdir, or --preset={stored['preset']}"
        )
    return root


def part(plan: list[Job], index: int, count: int) -> list[Job]:
    """The jobs of a shard: a share of the models, and what they are made of."""
    whole = list(dict.fromkeys(job.model or job.folder for job in plan if job.stage != "collect"))
    mine = set(whole[index::count])
    chosen = [job for job in plan if job.folder in mine or job.model in mine]
    used = {job.histories for job in plan if job.stage != "collect"}
    alone = [job.folder for job in plan if job.stage == "collect" and job.folder not in used]
    needed = {job.histories for job in chosen} | set(alone[index::count])
    return [job for job in plan if job.folder in needed or job in chosen]


def do(
    root: Path, plan: list[Job], interruption: Interruption, published: Mapping[str, float] = {}
) -> None:
    """Does what is not done yet; waits for what another process does.

    Args:
      root: of the folders.
      plan: all jobs, each after those whose results it reads.
      interruption: is asked between and within jobs.
      published: seconds that jobs took elsewhere, by folder, for want of any like them done here.
    """
    left = [job for job in plan if not _is_done(job, root)]
    for config in {job.config.to_json(): job.config for job in left}.values():
        validation.validate(config)
    rates: dict[str, list[float]] = {}
    to_do = {job.folder for job in left}
    for job in plan:
        if job.folder not in to_do:
            _learn(rates, root, job)
    estimate = lambda job: _estimate(job, rates, published)
    say(f"{len(plan) - len(left)} of {len(plan)} jobs are done already")
    if published:
        say("times are those of docs/figures, until a job like it is done here")
    for line in overview(left, estimate):
        say(line)
    for number, job in enumerate(left):
        say(f"[{number + 1}/{len(left)}] {job.folder}   {remaining(left[number:], estimate)}")
        with contextlib.closing(_wait(root, job, interruption)) as workdir, _timed(root, job):
            pipeline.run_stages(job.config, workdir, [job.stage], interruption)
        _learn(rates, root, job)


def _is_done(job: Job, root: Path) -> bool:
    """What process 0 sees, on all of them."""
    return processes.first_decides(lambda: job.done(root))


def _wait(root: Path, job: Job, interruption: Interruption):
    """The job's workdir, once nobody else is at work there."""
    told = False
    while True:
        interruption.check()
        try:
            return job.workdir(root)
        except InUse as error:
            if not told:
                say(f"{error} (waiting)")
            told = True
            time.sleep(_PATIENCE)


@contextlib.contextmanager
def _timed(root: Path, job: Job) -> Iterator[None]:
    """Adds the seconds of its body to those that the job's folder has, also if it is stopped."""
    began = time.monotonic()
    try:
        yield
    finally:
        if processes.is_first():
            seconds = _seconds(root, job) + time.monotonic() - began
            write_text_atomically(root / job.folder / _SECONDS, json.dumps({"seconds": seconds}))


def _seconds(root: Path, job: Job) -> float:
    path = root / job.folder / _SECONDS
    return read_json(path, "remove it")["seconds"] if path.exists() else 0.0


def _like(job: Job) -> str:
    """What jobs have in common of which one tells how long another takes."""
    return job.folder.rsplit("-", 2)[0]  # without the seed and the digest


def _learn(rates: dict[str, list[float]], root: Path, job: Job) -> None:
    """Adds the seconds for each unit of work of a job that is done."""
    if seconds := _seconds(root, job):
        rates.setdefault(_like(job), []).append(seconds / job.work)


def _estimate(
    job: Job, rates: Mapping[str, list[float]], published: Mapping[str, float]
) -> float | None:
    """Seconds, as jobs like it took here, or as it took elsewhere; None if neither is known."""
    if _like(job) in rates:
        return job.work * float(np.mean(rates[_like(job)]))
    return published.get(job.folder)


def published_seconds(
    number: int, preset: str, runs: Mapping[str, Run], seeds: int
) -> dict[str, float]:
    """Seconds by folder of a figure's jobs, of the results that come with a clone.

    Those of another preset or another kind of device say nothing.
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


def overview(left: list[Job], estimate: Callable[[Job], float | None]) -> list[str]:
    """What there is to do, a line for each stage, and how long it will take."""
    lines = []
    for stage in STAGES:
        if of_stage := [job for job in left if job.stage == stage]:
            lines.append(f"  {stage:9}{len(of_stage):4} to do: {remaining(of_stage, estimate)}")
    if len(lines) > 1:
        lines.append(f"  {'all':9}{len(left):4} to do: {remaining(left, estimate)}")
    return lines


def remaining(left: list[Job], estimate: Callable[[Job], float | None]) -> str:
    """How long jobs will take together, and how many of them nothing is known of."""
    known = [seconds for job in left if (seconds := estimate(job)) is not None]
    unknown = len(left) - len(known)
    parts = [_duration(sum(known))] if known else []
    if unknown:
        more = " more" if known else ""
        parts.append(f"no estimate for {style.counted(unknown, f'{more} job'.strip())}")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return "less than a minute"
    if seconds < 5400:
        return f"about {math.ceil(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"


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
        "runs": {name: _scale(results[name]) for name in results},
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


def _scale(results: Results) -> dict[str, Any]:
    """How large a run was."""
    c, world = results.config, build.world(results.config)
    scale = {
        "environment": c.env.name,
        "training_tasks": len(world.train),
        "heldout_tasks": len(world.heldout),
        "source": None if results.source is None else c.source.name,
        **results.costs,
    }
    if results.metrics:
        scale |= {
            "method": c.method,
            "core": c.model.core,
            "updates": c.train.steps,
            "batch_size": c.train.batch_size,
            "context": c.model.context,
            "episodes": c.evaluation.episodes,
            "rollouts": c.evaluation.rollouts,
        }
    return scale


def say(text: str) -> None:
    """Prints a line, once."""
    if processes.is_first():
        print(text, flush=True)


def entry_point() -> None:
    """Runs ``main``."""
    interruption = Interruption()
    end_well(lambda: main(sys.argv[1:], interruption), interruption)


if __name__ == "__main__":
    entry_point()
