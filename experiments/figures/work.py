"""Does the jobs of figures: in order, each once, with an estimate of the remaining time.

Several processes can share a folder. A process that comes to a job that another one is doing waits
for it, and then skips it.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from matplotlib.ticker import EngFormatter

from ad_jax import build
from ad_jax.distributed import processes
from ad_jax.errors import UserError
from ad_jax.paths import Path, as_path, reason
from data_pipelines.files import read_json, write_text_atomically
from experiments import pipeline, validation
from experiments.figures.runs import STAGES, Job, Results
from experiments.pictures import style
from experiments.runtime.interruption import Interruption
from experiments.runtime.workdir import InUse

_PRESET = "preset.json"  # in the folder: whose results it holds
_SECONDS = "seconds.json"  # in a job's folder: how long it took
_UNITS = (" steps to collect", " transitions to train on", " steps to evaluate")
_PATIENCE = 5.0  # seconds between two checks whether another process has finished a job


def open_root(folder: str | os.PathLike, preset: str) -> Path:
    """Opens the folder for all jobs, and records their preset in it.

    JAX's compilation cache is kept there too, since a figure's runs compile similar programs.

    Raises:
      UserError: it can't be used, or holds results of another preset.
    """
    if not os.fspath(folder):
        raise UserError("--workdir= is empty: give a folder")
    root = as_path(folder)
    path = root / _PRESET
    try:
        root.mkdir(parents=True, exist_ok=True)
        if processes.is_first() and not path.exists():
            write_text_atomically(path, json.dumps({"preset": preset}))
    except OSError as error:
        raise UserError(
            f"--workdir={folder} can't be used ({reason(error)}): give another folder"
        ) from error
    processes.barrier("preset")
    stored = read_json(path, "remove it, and the given preset will be used for this folder")
    if stored["preset"] != preset:
        raise UserError(
            f"{root} holds results of the preset {stored['preset']}, not of {preset}: give another "
            f"--workdir, or --preset={stored['preset']}"
        )
    if not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(root / "compiled"))
    return root


def part(plan: list[Job], index: int, count: int) -> list[Job]:
    """The jobs of a shard: a share of the models, with the histories that they need."""
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
    """Does the jobs that are not done yet; waits for those that another process is doing.

    Args:
      root: the folder of all jobs.
      plan: all jobs, each after those whose results it reads.
      interruption: checked between and during jobs.
      published: seconds that jobs took elsewhere, by folder, used until a similar job is done here.
    """
    left = [job for job in plan if not is_done(job, root)]
    for config in {job.config.to_json(): job.config for job in left}.values():
        validation.validate(config)
    rates: dict[str, list[float]] = {}
    to_do = {job.folder for job in left}
    for job in plan:
        if job.folder not in to_do:
            _learn(rates, root, job)
    estimate = lambda job: estimated(job, rates, published)
    say(f"{len(plan) - len(left)} of {len(plan)} jobs are done already")
    if published:
        say("estimates are from docs/figures until a similar job is done here")
    for line in overview(left, estimate):
        say(line)
    for number, job in enumerate(left):
        say(f"[{number + 1}/{len(left)}] {job.folder}   {remaining(left[number:], estimate)}")
        with contextlib.closing(_wait(root, job, interruption)) as workdir, _timed(root, job):
            pipeline.run_stages(job.config, workdir, [job.stage], interruption)
        _learn(rates, root, job)


def is_done(job: Job, root: Path) -> bool:
    """Whether a job is done, as process 0 sees it; the same on all processes."""
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
    """Adds the seconds of its body to those stored in the job's folder, even if it is stopped."""
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
    """A key that jobs share if the time of one is an estimate for the others."""
    return job.folder.rsplit("-", 2)[0]  # without the seed and the digest


def _learn(rates: dict[str, list[float]], root: Path, job: Job) -> None:
    """Adds the seconds for each unit of work of a job that is done."""
    if seconds := _seconds(root, job):
        rates.setdefault(_like(job), []).append(seconds / job.work)


def estimated(
    job: Job, rates: Mapping[str, list[float]], published: Mapping[str, float]
) -> float | None:
    """Estimated seconds, from similar jobs here, else from elsewhere; None if neither is known."""
    if _like(job) in rates:
        return job.work * float(np.mean(rates[_like(job)]))
    return published.get(job.folder)


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
    """How long jobs will take together, and how many of them have no estimate."""
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


def amount(plan: list[Job], published: Mapping[str, float]) -> str:
    """How many jobs there are, how much they do, and how long that takes."""
    of_stage = [[job for job in plan if job.stage == stage] for stage in STAGES]
    parts = ", ".join(
        f"{EngFormatter(places=1, sep=' ')(sum(job.work for job in some))}{unit}"
        for some, unit in zip(of_stage, _UNITS, strict=True)
        if some
    )
    time = remaining(plan, lambda job: estimated(job, {}, published))
    return f"{style.counted(len(plan), 'job')} ({parts}): {time}"


def scale(results: Results) -> dict[str, Any]:
    """How large a run was, and what it cost."""
    c, world = results.config, build.world(results.config)
    found = {
        "environment": c.env.name,
        "training_tasks": len(world.train),
        "heldout_tasks": len(world.heldout),
        "source": None if results.source is None else c.source.name,
        "env_steps": _env_steps(results),
        **results.costs,
    }
    if results.metrics:
        found |= {
            "method": c.method,
            "core": c.model.core,
            "updates": c.train.steps,
            "batch_size": c.train.batch_size,
            "context": c.model.context,
            "episodes": c.evaluation.episodes,
            "rollouts": c.evaluation.rollouts,
        }
    return found


def _env_steps(results: Results) -> int:
    """Steps in the environment: the source's, or the method's own if it reads no histories."""
    if results.source is not None:
        return results.source["env_steps"]
    c = results.config
    return c.train.steps * build.method(c, build.world(c)).transitions


def say(text: str) -> None:
    """Prints a line, once."""
    if processes.is_first():
        print(text, flush=True)
