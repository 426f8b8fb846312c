"""Compares all methods and cores on the same histories, in every environment.

    python -m experiments.arena --preset=cpu --workdir=runs/arena

Finished work is skipped, and interrupted work is resumed. The results are in the folder report of
the workdir: summary.json and pictures. ``--methods="AD; DPT"`` and ``--worlds=dark_room`` select
methods and environments.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping

from ad_jax.distributed import processes
from ad_jax.errors import UserError
from experiments.runtime import joining

joining.join(sys.argv[1:])  # before what follows: gymnax starts JAX's backend when it is imported

from data_pipelines.files import growing, write_text_atomically
from experiments.arena import entries, results
from experiments.figures import command, work
from experiments.figures.runs import Results, Run, jobs
from experiments.pictures import style
from experiments.runtime.interruption import Interruption, end_well


def main(arguments: list[str], interruption: Interruption) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.arena")
    parser.add_argument(
        "--methods", default="", help="all, or some of " + "; ".join(entries.ENTRIES)
    )
    parser.add_argument("--worlds", default="", help="all of the preset's, or some, separated by ;")
    options = command.parse(parser, arguments)
    runs = chosen(options.preset, options.worlds, options.methods)
    seeds = options.seeds or entries.SEEDS[options.preset]
    if options.list:
        print(f"preset {options.preset}, {style.counted(seeds, 'training seed')}")
        for world, of_world in runs.items():
            print(f"{world}\n     {work.amount(list(plan(of_world, seeds).values()), {})}")
        return
    command.begin(options, interruption)
    compete(runs, options.preset, options.workdir, interruption, seeds, options.shard)


def chosen(preset: str, worlds: str, methods: str) -> dict[str, dict[str, Run]]:
    """Selects runs by environment and method: names separated by semicolons, or "" for all.

    Raises:
      UserError: a name does not exist, or no learner is left in an environment.
    """

    def some(names: str, known: Mapping[str, object], flag: str) -> list[str]:
        given = [name.strip() for name in names.split(";")] if names else list(known)
        if unknown := [name for name in given if name not in known]:
            raise UserError(f"{flag}: there is no {unknown[0]!r}: choose from {'; '.join(known)}")
        return given

    some_methods = some(methods, entries.ENTRIES, "--methods")
    runs = entries.runs(preset, some(worlds, dict.fromkeys(entries.WORLDS[preset]), "--worlds"))
    found = {
        world: {name: run for name, run in of_world.items() if name in some_methods}
        for world, of_world in runs.items()
    }
    alone = set(entries.FROM_SCRATCH)
    if empty := [world for world, of_world in found.items() if set(of_world) <= alone]:
        raise UserError(f"--methods={methods}: none of these learns in context in {empty[0]}")
    return found


def plan(of_world: Mapping[str, Run], seeds: int) -> dict:
    """The jobs of an environment by folder, each after the jobs whose output it reads."""
    return {job.folder: job for run in of_world.values() for job in jobs(run, seeds)}


def compete(
    runs: Mapping[str, Mapping[str, Run]],
    preset: str,
    folder: str | os.PathLike,
    interruption: Interruption,
    seeds: int,
    shard: tuple[int, int] = (0, 1),
) -> None:
    """Does the runs, or a share of them, and writes the report once all are done.

    Args:
      runs: by the names of the environment and of the entry.
      preset: of the runs.
      folder: the workdir of all jobs.
      interruption: checked between and during jobs.
      seeds: number of training seeds.
      shard: (index, count) of the share, with indices from 0.
    """
    root = work.open_root(folder, preset)
    whole = {k: job for of_world in runs.values() for k, job in plan(of_world, seeds).items()}
    work.do(root, work.part(list(whole.values()), *shard), interruption)
    if missing := sum(not work.is_done(job, root) for job in whole.values()):
        work.say(
            f"the report waits for {missing} jobs of other shards: run this again without "
            "--shard when they are done"
        )
        return
    if not processes.is_first():
        return
    found = {
        world: {name: Results(root, run, seeds) for name, run in of_world.items()}
        for world, of_world in runs.items()
    }
    made = results.summary(found) | {"preset": preset}
    report = root / "report"
    report.mkdir(exist_ok=True)
    with growing(report) as (local, _):
        names = [
            name
            for stem, picture in results.pictures(made).items()
            for name in style.save(picture, local / f"{stem}.png")
        ]
    write_text_atomically(report / "summary.json", json.dumps(made, allow_nan=False))
    print(results.table(made))
    for name in (*names, "summary.json"):
        print(report / name)


def entry_point() -> None:
    """Runs ``main``."""
    interruption = Interruption()
    end_well(lambda: main(sys.argv[1:], interruption), interruption)


if __name__ == "__main__":
    entry_point()
