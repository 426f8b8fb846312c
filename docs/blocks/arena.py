"""Results of the arena: methods and cores on the same histories."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from docs.blocks.words import Results, interval, link, number, rate, table
from experiments.arena.entries import LEFT_OUT, PICTURES, WORLDS

ARENA, CORES = "docs/results/arena.json", "benchmarks/results/cores.json"
PUBLISHED = "docs/results/published.json"
NAMES = {"DarkRoom": "Dark Room", "DarkKeyToDoor": "Dark Key-to-Door"}  # as others call them


def _once_it_is_there(path: str):
    """Makes a block say "Not run yet." as long as its results are missing."""

    def wrap(make: Callable[[Any], str]) -> Callable[[Results], str]:
        @wraps(make)
        def made(results: Results) -> str:
            return make(results) if path in results else "Not run yet."

        return made

    return wrap


def _of_world(made: Mapping[str, Any], show: Callable[[Mapping[str, Any]], str]) -> list[list[str]]:
    """A row for each entry, with a cell for each environment."""
    worlds = made["worlds"]
    return [
        [f"`{name}`", *(show(of_name[world]) if world in of_name else "–" for world in worlds)]
        for name, of_name in made["methods"].items()
    ]


def _header(made: Mapping[str, Any], first: str = "entry") -> str:
    return " | ".join([first, *(world["environment"] for world in made["worlds"].values())])


@_once_it_is_there(ARENA)
def arena_scores(results: Results) -> str:
    """Scores of the last tenth, for all entries in all environments."""
    made = results[ARENA]
    rows = _of_world(made, lambda of: f"{number(of['mean'])} ({interval(of['mean_ci95'])})")
    found = [world["from_scratch"].get("source", {}) for world in made["worlds"].values()]
    learned = lambda of: (
        f"{of['name']}: {number(of['mean'])} ({interval(of['ci95'])})" if "mean" in of else "–"
    )
    bounds = {
        key: [number(world[key]) for world in made["worlds"].values()]
        for key in ("random", "optimum")
    }
    return table(
        _header(made),
        [
            *rows,
            ["`source`, from scratch", *map(learned, found)],
            ["return that counts as 0: random", *bounds["random"]],
            ["return that counts as 1: optimal", *bounds["optimum"]],
        ],
    )


@_once_it_is_there(ARENA)
def arena_improvement(results: Results) -> str:
    """The probability of improvement over the first entry."""
    made = results[ARENA]
    first = dict.fromkeys(f"`{world['first']}`" for world in made["worlds"].values())
    show = lambda of: f"{number(of['improvement'])} ({interval(of['improvement_ci95'])})"
    rows = _of_world(made, lambda of: show(of) if "improvement" in of else "")
    header = _header(made, f"better than {' or '.join(first)}, probability")
    return table(header, [row for row in rows if any(row[1:])])


@_once_it_is_there(ARENA)
def arena_sooner(results: Results) -> str:
    """Episodes or steps until the score is 0.8."""
    made = results[ARENA]
    show = lambda of: "never" if of["to_80"] is None else f"{of['to_80']}"
    return table(_header(made, "first episode, or step, with 0.8"), _of_world(made, show))


@_once_it_is_there(ARENA)
def arena_shifted(results: Results) -> str:
    """Scores in other distributions of tasks, and the regret of bandits."""
    made = results[ARENA]
    columns = {
        (world, group): f"{made['worlds'][world]['environment']}, {group}"
        for of_name in made["methods"].values()
        for world, of in of_name.items()
        for group in of["shifted"]
    }
    by_step = [world for world, of in made["worlds"].items() if of["unit"] == "step"]
    say = lambda of: f"{number(of['mean'])} ({interval(of['ci95'])})"
    rows = []
    for name, of_name in made["methods"].items():
        cells = [say(of_name[w]["shifted"][g]) if w in of_name else "–" for w, g in columns]
        regret = [say(of_name[w]["regret"]) if w in of_name else "–" for w in by_step]
        rows.append([f"`{name}`", *regret, *cells])
    alone = {world: made["worlds"][world]["from_scratch"] for world in by_step}
    for name in dict.fromkeys(name for learners in alone.values() for name in learners):
        found = [alone[world].get(name) for world in by_step]
        regret = [
            f"{of['name']}: {number(of['regret'])} ({interval(of['ci95'])})" if of else "–"
            for of in found
        ]
        rows.append([f"`{name}`, from scratch", *regret, *["–"] * len(columns)])
    regrets = [f"{made['worlds'][w]['environment']}, regret of held-out tasks" for w in by_step]
    return table(" | ".join(["entry", *regrets, *columns.values()]), rows)


@_once_it_is_there(ARENA)
def arena_costs(results: Results) -> str:
    """Parameters, steps in the environment, and seconds."""

    def show(of: Mapping[str, Any]) -> str:
        run = of["run"]
        mean = lambda values: sum(values) / len(values)
        stages = [run.get("collect", 0), mean(run["train"]), mean(run["evaluate"])]
        times = " + ".join(f"{seconds:.0f}" for seconds in stages)
        return f"{rate(of['parameters'])}, {rate(run['env_steps'])}, {times} s"

    made = results[ARENA]
    first = "parameters, steps in the environment, collecting + training + acting"
    return table(_header(made, first), _of_world(made, show))


def arena_left_out(results: Results) -> str:
    """Where an entry does not compete, and why."""
    del results
    rows: dict[tuple[str, str], list[str]] = {}
    for name, worlds in LEFT_OUT.items():
        for world, why in worlds.items():
            if world in WORLDS["cpu"]:
                rows.setdefault((name, why), []).append(f"`{world}`")
    return table(
        "entry | not in | why",
        [[f"`{name}`", ", ".join(worlds), why] for (name, why), worlds in rows.items()],
    )


@_once_it_is_there(ARENA)
def arena_published(results: Results) -> str:
    """Returns that others have published for the same environments, and those of the arena."""
    made, rows = results[ARENA], []
    for world, of_world in made["worlds"].items():
        name = NAMES.get(of_world["environment"], "")
        for theirs in results[PUBLISHED].get(name, []):
            rows.append([name, theirs["who"], theirs["how"], number(theirs["score"]),
                         f"{theirs.get('episodes', '–')}"])  # fmt: skip
        if name:
            for entry in PICTURES["methods"]:
                if of := made["methods"].get(entry, {}).get(world):
                    run = of["run"]
                    histories = f"{run['training_tasks']} tasks, {run['source'] or 'no histories'}"
                    rows.append([name, f"ours, `{entry}`", histories,
                                 f"**{number(of['return']['mean'])}**",
                                 f"{run['episodes']}"])  # fmt: skip
    return table("environment | who | learned from | return | after episodes", rows)


@_once_it_is_there(CORES)
def arena_cores(results: Results) -> str:
    """Speed and memory of the cores by the length of the context."""
    found = {
        (row["setting"]["core"], row["setting"]["context"], row["setting"]["part"]): row
        for row in results[CORES]["rows"]
    }
    rows = []
    for core, context in dict.fromkeys(key[:2] for key in found):
        trained, acting = (found[core, context, part] for part in ("training", "acting"))
        rows.append([
            f"`{core}`", f"{context:,}", rate(trained["per_second"]),
            f"{trained['memory_bytes'] / 2**20:,.0f} MiB", rate(acting["per_second"]),
            f"{acting['memory_bytes'] / 2**10:,.1f} KiB",
        ])  # fmt: skip
    return table(
        "core | context | transitions trained on, per second | memory of a training step | "
        f"{link('steps acted', CORES)}, per second | memory of an agent",
        rows,
    )


BLOCKS = (
    arena_scores,
    arena_improvement,
    arena_sooner,
    arena_shifted,
    arena_costs,
    arena_left_out,
    arena_published,
    arena_cores,
)
