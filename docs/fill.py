"""Writes the numbers of the pages from the committed results.

    python -m docs.fill

A page says where they go: ``BLOCKS[NAME]`` makes what stands between ``<!--numbers:NAME-->`` and
``<!--end-->``. To change a number, change the JSON; to show another one, change the function.
"""

import itertools
import json
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ad_jax.errors import UserError
from experiments.configs.common import LARGE
from experiments.figures import fig03_bandits, fig04_main

ROOT = pathlib.Path(__file__).parents[1]
# The results by their paths, such as "docs/results/watermaze.json".
Results = Mapping[str, Any]


def load(root: pathlib.Path = ROOT) -> dict[str, Any]:
    """All results that are committed, by their paths."""
    folders = ("docs/results", "ad_jax/weights", "benchmarks/results")
    paths = [path for folder in folders for path in sorted((root / folder).glob("*.json"))]
    return {path.relative_to(root).as_posix(): json.loads(path.read_text()) for path in paths}


def pages(root: pathlib.Path = ROOT) -> list[pathlib.Path]:
    """The pages that may have blocks."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


BLOCK = re.compile(
    r"^( *)<!--numbers:(\w+)-->\n(?:(?!<!--numbers:).)*?<!--end-->", re.MULTILINE | re.DOTALL
)


def fill(text: str, results: Results) -> str:
    """A page with the numbers of the results.

    Args:
      text: the page as it is.
      results: by their paths, as ``load`` gives them.

    Raises:
      UserError: a block has an unknown name.
    """

    def block(found: re.Match) -> str:
        indent, name = found.groups()
        if name not in BLOCKS:
            raise UserError(f"<!--numbers:{name}-->: unknown; choose from {', '.join(BLOCKS)}")
        lines = [f"<!--numbers:{name}-->", *BLOCKS[name](results).splitlines(), "<!--end-->"]
        return "\n".join(indent + line for line in lines)

    return BLOCK.sub(block, text)


class Run(NamedTuple):
    """A run, and what its results do not say.

    Attributes:
      path: of its results.
      name: of the environment.
      source: the learner in words.
      streams: how many of its streams are distilled.
      training: number of training tasks, if the results do not say.
      note: on how it was run.
    """

    path: str
    name: str
    source: str
    streams: str
    training: int | None = None
    note: str = ""


CPU, H100 = "benchmarks/results/cpu_2_cores.json", "benchmarks/results/h100.json"
GROWTH = "benchmarks/results/growth.json"
QUICKSTART = "docs/results/dark_room_quickstart.json"
ABLATIONS = "benchmarks/results/ablations.json"
SEEDS = "docs/results/dark_room_quickstart_seeds.json"
TRIALS = "docs/results/watermaze_trials.json"
PUBLISHED = "docs/results/published.json"
SUBSAMPLING = "docs/results/subsampling_trials.json"
EXPERTS = "docs/results/expert_trials.json"
PAPER_H100 = "docs/results/dark_room_paper_h100.json"
BANDIT = Run("ad_jax/weights/adversarial_bandit.json", "adversarial bandit", "UCB", "1")
# Of the preset `cpu`: the README shows these.
MAIN = [
    Run("ad_jax/weights/dark_room.json", "Dark Room", "PPO", "64"),
    Run("ad_jax/weights/dark_room_hard.json", "Dark Room Hard", "PPO, privileged", "32 of 64"),
    Run("ad_jax/weights/dark_key_to_door.json", "Dark Key-to-Door", "PPO, privileged", "4 of 32"),
    Run("docs/results/watermaze.json", "Watermaze", "search that sees poses", "8", 512),
]
OTHERS = [
    Run(QUICKSTART, "Dark Room", "R-max", "64", 57),
    Run(
        "docs/results/dark_room_quickstart_h100.json",
        "Dark Room",
        "PPO",
        "64",
        65,
        " (as it was, with PPO)",
    ),
    Run(PAPER_H100, "Dark Room", "A2C", "31 of 100", 65, " (see below)"),
]
# What the paper shows: scores on three groups of bandits, and (steps, return) elsewhere.
GROUPS = {"odd": "heldout", "even": "even", "uniform": "uniform"}
PAPER_SCORES = dict(zip(GROUPS, fig03_bandits.PAPER["AD"], strict=True))
PAPER_CURVES = {title: fig04_main.PAPER[key][0] for key, title in fig04_main.TITLES.items()}
STEPS_OF_AN_EPISODE = {
    "Dark Room": 20, "Dark Room Hard": 20, "Dark Key-to-Door": 50, "Watermaze": 50,
}  # fmt: skip


def summary_of(path: str, results: Results) -> dict[str, Any]:
    """Of a run, whether or not it stands in the results of a learner."""
    return results[path].get("summary", results[path])


def table(header: str, rows: Iterable[Iterable[str]]) -> str:
    """A table; ``header`` has its columns with bars between them."""
    columns = header.split(" | ")
    line = lambda cells: f"| {' | '.join(cells)} |"
    return "\n".join([line(columns), "|" + "---|" * len(columns), *map(line, rows)])


def link(text: str, path: str) -> str:
    """To a file, from a page in docs."""
    return f"[{text}]({os.path.relpath(path, 'docs')})"


def number(value: float | None, digits: int = 3) -> str:
    """With two decimals, or as many of them as there is room for in so many digits."""
    if value is None:
        return "–"
    return f"{value:.{max(0, min(2, digits - len(str(int(abs(value))))))}f}"


def interval(ends: Iterable[float | None]) -> str:
    return " – ".join(map(number, ends))


def final(group: Mapping[str, Any]) -> str:
    """The last tenth, normalised, with its interval."""
    if group["final"] is None:
        return "–"
    return f"{number(group['final'])} ({interval(group['final_ci95'])})"


def optimum(summary: Mapping[str, Any]) -> str:
    """Whole numbers without decimals."""
    return f"{float(number(summary['optimal_return'])):g}"


def factor(value: float) -> str:
    """With two digits at least."""
    return f"{value:.2g}" if value < 1 else number(value, 3 if value < 2 else 2)


def times(ratio: Mapping[str, float]) -> str:
    """A ratio with its lowest and highest."""
    return f"{factor(ratio['median'])} ({factor(ratio['low'])} – {factor(ratio['high'])})"


def rate(value: float) -> str:
    """In millions or thousands."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{number(value / unit, 2)} {name}"
    return number(value, 2)


def end(curve: list[float]) -> float:
    """Mean of the last tenth."""
    last = curve[-max(1, len(curve) // 10) :]
    return sum(last) / len(last)


def improves(summary: Mapping[str, Any]) -> str:
    """From the first episode to the last tenth, on held-out tasks."""
    curve = summary["heldout"]["return"]
    last = f"**{number(end(curve))}**"
    return f"{number(curve[0])} → {last}" if len(curve) > 1 else last


def preset(summary: Mapping[str, Any]) -> str:
    seeds = len(summary["seeds"])
    return (
        f"`{summary['preset']}`"
        + ", H100" * ("H100" in summary["device"])
        + f", {seeds} seeds" * (seeds > 1)
    )


def seconds(summary: Mapping[str, Any]) -> str:
    return " + ".join(f"{value:,.0f}" for value in summary["seconds"].values()) + " s"


def device(summary: Mapping[str, Any]) -> str:
    return f"{sign(summary['device'])}, jax {summary['jax']}"


def sign(text: str) -> str:
    return text.replace(" x ", " × ")


def paper(name: str, episodes: int) -> str:
    """The paper's return after as many episodes, if it shows that, and at its end."""
    shown = {x / STEPS_OF_AN_EPISODE[name]: value for x, value in PAPER_CURVES[name]}
    marks = sorted({episodes, max(shown)} & set(shown))
    return ", ".join(f"{number(shown[mark])} after {mark:.0f}" for mark in marks)


def readme_environments(results: Results) -> str:
    """A row for each environment of the paper."""
    bandit = summary_of(BANDIT.path, results)
    scores = " / ".join(number(bandit[group]["score"]) for group in GROUPS.values())
    papers = " / ".join(map(number, PAPER_SCORES.values()))
    rows = [[f"{BANDIT.name}, score {' / '.join(GROUPS)}", BANDIT.source, f"**{scores}**", papers]]
    for run in MAIN:
        found = summary_of(run.path, results)
        episodes = found["episodes"]
        came = f"{improves(found)} of {optimum(found)} after {episodes} episodes"
        rows.append([run.name, run.source, came, paper(run.name, episodes)])
    return table(
        "environment | source | in context, held-out tasks | the paper, at its scale", rows
    )


def readme_speed(results: Results) -> str:
    """Our speed beside that of others, in a sentence."""
    words = {"collect": "collection", "train": "training", "evaluate": "acting"}

    def beside(stage: str, peer: str) -> str:
        """The lowest and the highest median of a stage."""
        found = [row["ours_is_times"]["median"] for row in least
                 if (row["stage"], row["peer"]) == (stage, peer)]  # fmt: skip
        ends = sorted({factor(min(found)), factor(max(found))}, key=float)
        return f"{words[stage]} is {' to '.join(ends)} times as fast as {peer}"

    least = least_fair(results[CPU]["rows"])
    pairs = dict.fromkeys((row["stage"], row["peer"]) for row in least if row["stage"] in words)
    *some, last = (beside(*pair) for pair in pairs)
    said = ",\n".join([*some, f"and {last}"])
    return f"On two CPU cores, beside the best that we could make of each peer,\n{said}."


def results_returns(results: Results) -> str:
    """What was earned in context on held-out tasks."""
    bandit, rows = summary_of(BANDIT.path, results), []
    for arms, group in GROUPS.items():
        found = bandit[group]
        rows.append([
            f"{link(BANDIT.name, BANDIT.path)}, {preset(bandit)}: {arms}",
            str(bandit["episodes"]), f"**{number(end(found['return']))}**",
            number(found["random_return"]), f"UCB: {number(found['source_return'])}",
            f"score {number(found['score'])} ({interval(found['score_ci95'])})", "", "",
            f"score {number(PAPER_SCORES[arms])}",
        ])  # fmt: skip
    for run in (*OTHERS, *MAIN):
        found = summary_of(run.path, results)
        of_tasks = found["heldout"]["per_task_final"]
        rows.append([
            f"{link(run.name, run.path)}, {preset(found)}{run.note}", str(found["episodes"]),
            improves(found), number(found["random_return"]), optimum(found),
            final(found["heldout"]), interval((min(of_tasks), max(of_tasks))),
            number(found["train"]["final"]), paper(run.name, found["episodes"]),
        ])  # fmt: skip
    return table(
        "environment, preset | episodes | return, first episode → last tenth | at random | optimum "
        "| of the optimum (95 %) | worst – best task | training tasks | the paper's return",
        rows,
    )


def results_runs(results: Results) -> str:
    """How the runs were made, and how long they took."""
    rows = []
    for run in (BANDIT, *OTHERS, *MAIN):
        found = summary_of(run.path, results)
        training = results[run.path].get("training_tasks", run.training)
        rows.append([
            f"{run.name}, {preset(found)}", f"{training:,} / {found['heldout']['tasks']}",
            run.source, run.streams, number(end(found["source"]["normalized"])),
            seconds(found), device(found),
        ])  # fmt: skip
    return table(
        "environment, preset | tasks, training / held-out | source | streams distilled "
        "| its last tenth / optimum | collect + train + evaluate | device",
        rows,
    )


def results_gymnax(results: Results) -> str:
    """Environments of gymnax: cart_pole.json, and all files called gymnax_*.json."""
    rows = []
    for path in results:
        if path.startswith(("docs/results/cart_pole.", "docs/results/gymnax_")):
            found = summary_of(path, results)
            config = "gymnax" if "gymnax_" in path else "cart_pole"
            rows.append([
                f"{link(found['environment'], path)}, `{config}:{found['preset']}`",
                str(found["episodes"]),
                improves(found), number(found["random_return"]),
                number(end(found["source"]["return"])),
                final(found["heldout"]),
                seconds(found), device(found),
            ])  # fmt: skip
    return table(
        "environment, preset | episodes | return, first episode → last tenth | at random "
        "| the source's last tenth | last tenth (95 %) | collect + train + evaluate | device",
        rows,
    )


def dark_room_models(results: Results) -> str:
    """Models of other sizes on the same histories."""
    runs = results["docs/results/dark_room_models_h100.json"]["runs"]
    rows = []
    for run in sorted(runs, key=lambda run: run["heldout_return_by_tenth"][-1]):
        changed = re.sub(r"\b(model|train|optimizer)\.", "", run["changed"])
        if "source." not in changed:
            rows.append([
                f"`{changed}`" if changed else "nothing",
                number(run["heldout_return_by_tenth"][-1]), number(run["heldout_stuck"]),
                number(run["train_return_by_tenth"][-1]), number(run["train_stuck"]),
            ])  # fmt: skip
    return table(
        "changed | held-out: return | earned nothing | training: return | earned nothing", rows
    )


def watermaze_trials(results: Results) -> str:
    """What each change of Watermaze's preset was worth, on validation tasks."""
    rows = []
    for row in results[TRIALS]["rows"]:
        encoder = " + ".join(map(str, row["encoder"])) if row["encoder"] else "–"
        rows.append([
            row["source"], row["sees"], encoder, number(row["shown_cost"], 2),
            f"{row['platforms']}", f"{row['updates']}", row["optimizer"],
            f"{number(row['first'])} → {number(row['tenth'])} → **{number(row['final'])}** "
            f"({interval(row['final_ci95'])}), {row['episodes']}",
            number(row["training"]),
        ])  # fmt: skip
    return table(
        "source | sees | encoder | shown_cost | platforms | updates | optimiser | episode 1 → 10 → "
        "last tenth (95 %), of so many | training platforms",
        rows,
    )


def published(results: Results) -> str:
    """What others have printed, and ours beside it."""
    rows = []
    for world, theirs in results[PUBLISHED].items():
        rows += [
            [world, row["who"], row["how"], number(row["score"]), "", f"{row.get('episodes', '–')}"]
            for row in theirs
        ]
        for run in (*OTHERS, *MAIN):
            found = summary_of(run.path, results)
            if run.name == world and "cpu" in found["device"]:
                training = results[run.path].get("training_tasks", run.training)
                rows.append([
                    world, f"ours, {link(found['preset'], run.path)}",
                    f"{training} tasks × {run.streams.split()[0]} histories of {run.source}",
                    f"**{number(end(found['heldout']['return']))}**", optimum(found),
                    f"{found['episodes']}",
                ])  # fmt: skip
    return table("world | who | distilled | return | optimum | after episodes", rows)


def subsampling_trials(results: Results) -> str:
    """What it is worth to keep one episode of so many, on validation tasks."""
    rows = [
        [row["world"], f"{row['keep_every']}", f"{row['context']}", f"{row['updates']}",
         row["optimizer"], f"{number(row['first'])} → {number(row['fiftieth'])} → "
         f"**{number(row['final'])}** ({interval(row['final_ci95'])}), {row['episodes']}",
         number(row["training"])]
        for row in results[SUBSAMPLING]["rows"]
    ]  # fmt: skip
    return table(
        "world | one episode of | context | updates | optimiser | episode 1 → 50 → last tenth "
        "(95 %), of so many | training tasks",
        rows,
    )


def expert_trials(results: Results) -> str:
    """What ED and AD learn in context from sources of different ends, on validation tasks."""
    rows = [
        [row["world"], row["method"],
         f"{row['entropy_cost']} → {row['entropy_end']} in {row['entropy_updates']} of "
         f"{row['collect_updates']} updates",
         number(row["source_return"]), row["optimizer"],
         f"{number(row['first'])} → **{number(row['final'])}** ({interval(row['final_ci95'])})"]
        for row in results[EXPERTS]["rows"]
    ]  # fmt: skip
    return table(
        "world | method | weight of the entropy | last return of the source | optimiser | "
        "episode 1 → last tenth (95 %)",
        rows,
    )


def watermaze_encoders(results: Results) -> str:
    """How far off an encoder is that was trained to tell poses."""
    rows = [
        [" + ".join(map(str, found["hidden"])), f"{found['updates']}",
         f"{found['median_error_units']}"]
        for found in results[TRIALS]["encoders"]
    ]  # fmt: skip
    return table("layers | updates of 256 frames | median error, units", rows)


def least_fair(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each of our rows beside the best of each fair peer; the smallest ratio first."""
    fair = (row for row in rows if row.get("fair"))
    least: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in sorted(fair, key=lambda row: row["ours_is_times"]["median"]):
        least.setdefault((row["beside"], row["peer"]), row)
    return list(least.values())


def ablations(results: Results) -> str:
    """What each setting of ``quickstart`` is worth, on validation tasks."""
    found = results[ABLATIONS]["rows"]
    first, rows = found[0]["final"], []
    for row in found:
        by_seed = ", ".join(number(end(curve)) for curve in row["curve"])
        rows.append([
            "**as it is**" if row is found[0] else row["title"],
            f"{number(row['final'])} ({interval(row['ci95'])})",
            "" if row is found[0] else f"{row['final'] - first:+.2f}",
            by_seed, f"{100 * row['below_half']:.0f} %",
        ])  # fmt: skip
    return table(
        "changed | return / optimal return (95 %) | difference | by training seed "
        "| rollouts below half",
        rows,
    )


def bench_time(results: Results) -> str:
    """How it was measured: how long each stage took, or what else is known of the run."""
    found = results[CPU]
    if "note" in found:
        return found["note"]
    minutes = sum(found["seconds"].values()) / 60
    stages = ", ".join(f"{stage} {took:.0f} s" for stage, took in found["seconds"].items())
    return (
        f"{found['rounds']} rounds, jax {found['jax']}. It took {minutes:.0f} minutes after the "
        f"installation:\n{stages}."
    )


def row_name(row: Mapping[str, Any]) -> str:
    return sign(re.sub("^ad_jax[:,] ", "", row["what"]))


def setting(row: Mapping[str, Any]) -> str:
    """How a peer was run, as chosen by measuring."""
    return ", ".join(f"{name} {value}" for name, value in row["setting"].items()) or "–"


def speed_fair(results: Results) -> str:
    """Each of our rows beside the best that we could make of a peer."""
    found = results[CPU]["rows"]
    ours = {row["what"]: row for row in found}
    rows = []
    for row in least_fair(found):
        mine = ours[row["beside"]]
        rows.append([
            f"{mine['stage']}: {row_name(mine)}", f"{rate(mine['per_second'])} {mine['unit']}",
            row_name(row), rate(row["per_second"]), times(row["ours_is_times"]),
        ])  # fmt: skip
    return table("stage | ours, per second | the best of a peer | its own | ours / its own", rows)


def speed_conditions(results: Results) -> str:
    """Of each peer: what is as ours, what is not, and how it was run; and who is left out."""
    rows, last = [], None
    for row in results[CPU]["rows"]:
        if "left_out" in row:
            rows.append([f"{row['stage']}: {row['what']}", "left out", row["left_out"], "", "", ""])
        elif "peer" in row:
            equal = "as above" if row["equal"] == last else row["equal"]
            differs = row["differs"]
            if learned := row.get("worst_return_of_optimum"):
                differs += f"; its worst goal has {number(learned)} of the optimum"
            rows.append([
                f"{row['stage']}: {row_name(row)}", equal, differs, setting(row),
                row["version"], str(row["ours_is_times"]["rounds"]),
            ])  # fmt: skip
            last = row["equal"]
    return table("peer | equal | differs | setting | version | rounds", rows)


def speed_cpu(results: Results) -> str:
    """All rows on two cores: each of ours, and those that are compared with it below."""
    timed = [row for row in results[CPU]["rows"] if "per_second" in row]
    rows = []
    for ours in timed:
        if ours["beside"]:
            continue
        beside = [
            [row_name(row), rate(row["per_second"]), times(row["ours_is_times"])]
            for row in timed if row["beside"] == ours["what"]
        ]  # fmt: skip
        if "share" in ours:
            product = f"{1e3 * ours['matmul_tflop_per_second']:.0f} G"
            beside = [["a large matrix product's FLOP/s", product, times(ours["share"])]]
        first = [f"{ours['stage']}: {row_name(ours)}", f"{rate(ours['per_second'])} {ours['unit']}"]
        for left, right in itertools.zip_longest([first], beside or [[""] * 3], fillvalue=["", ""]):
            rows.append([*left, *right])
    return table("stage | ours, per second | beside | its own | ours / its own", rows)


def sizes_and_start(results: Results) -> str:
    """Bytes on disk, and seconds before the first step."""
    rows = []
    for row in results[CPU]["rows"]:
        if row["stage"] == "size":
            what = row["what"].removeprefix("ad_jax: ")
            rows.append([f"bytes of a transition, {what}", number(row["bytes_per_transition"], 2)])
        elif row["stage"] == "start":
            what = "seconds from the command to the first training step of `quickstart`"
            rows.append([f"{what}, the first time", number(row["first"], 2)])
            rows.append([f"{what}, again", number(row["again"], 2)])
    return table("what | number", rows)


def quickstart_seeds(results: Results) -> str:
    """What ``quickstart`` reaches on held-out tasks, over training seeds, in a sentence."""
    found = results[SEEDS]["methods"]["quickstart"]
    return (
        f"Of {found['seeds']} training seeds, it has {number(found['mean'])} "
        f"({interval(found['mean_ci95'])}) of the optimal return in the last tenth of the "
        "episodes: a 95 % interval\nfor which seeds, goals and rollouts are samples."
    )


def checkpoints(results: Results) -> str:
    """What a checkpoint costs training."""
    rows = []
    for row in results[CPU]["rows"]:
        if row["stage"] == "checkpoints":
            preset, every = row["what"].split(", ")
            rows.append([
                f"`{preset}`", f"{row['state_mib']:.3g} MiB", f"{row['step_ms']:.3g} ms", every,
                f"{row['waits_ms']:.0f} ms", f"{row['costs_ms']:.0f} ms",
                f"{row['percent_of_training']:.2g} % ({row['percent_at_most']:.2g} % at most)",
            ])  # fmt: skip
    return table(
        "model | state | a step | a checkpoint | training waits | all it costs | of training", rows
    )


def speed_h100(results: Results) -> str:
    """Each stage on one H100."""
    rows = []
    for row in results[H100]["rows"]:
        shown = ""
        if ratio := row.get("ratio"):
            shown = f"{times(ratio)} × {ratio['to']}"
        elif "share" in row:
            product = row["matmul_tflop_per_second"]
            shown = f"{times(row['share'])} of a matrix product's {product:.0f} TFLOP/s"
        what = f"{row['stage']}: {sign(row['what'])}"
        rows.append([what, f"{rate(row['per_second'])} {row['unit']}", shown])
    return table("stage | per second | beside", rows)


def tpu_steps(results: Results) -> str:
    """Training steps that were compiled for TPUs."""
    rows = []
    for path, found in compiled(results):
        memory, of = found["memory_gib"], found["roofline"]["of_gib"]
        sent = [f"{kind}: {c['number']}, {c['mib']:.0f} MiB" for kind, c in
                sorted(found["collectives"].items()) if c["mib"] >= 1]  # fmt: skip
        rows.append([
            f"`{found['preset']}`, {rate(found['parameters'])}, {found['topology']}",
            link(" × ".join(map(str, found["mesh"].values())), path),
            f"{memory['state_and_batch']:.2f} + {memory['temporaries']:.2f} of {of} GiB",
            f"{found['largest_buffer_mib']:.0f} MiB", "; ".join(sent),
        ])  # fmt: skip
    return table(
        "preset, parameters, slice | mesh: data × fsdp × model × sequence | state and batch + "
        "temporaries | largest array | collectives",
        rows,
    )


def tpu_rooflines(results: Results) -> str:
    """The times that the same steps take at least, about."""
    rows = []
    for path, found in compiled(results):
        roofline = found["roofline"]
        rows.append([
            f"`{found['preset']}`, {found['topology']}",
            link(" × ".join(map(str, found["mesh"].values())), path),
            f"{number(found['tflop']['needed'])} TFLOP",
            *(f"{number(roofline[f'{what}_ms'])} ms" for what in ("compute", "memory", "sending")),
            f"**{number(roofline['step_ms'])} ms**", f"{100 * roofline['utilisation']:.0f} %",
        ])  # fmt: skip
    return table(
        "preset, slice | mesh | a step needs | to compute | to move | to send "
        "| a step, about at least | utilisation, about at most",
        rows,
    )


def compiled(results: Results) -> list[tuple[str, Any]]:
    """The training steps that were compiled for TPUs, from the smallest model to the largest."""
    found = [item for item in results.items() if item[0].startswith("benchmarks/results/tpu_")]
    return sorted(found, key=lambda item: item[1]["parameters"])


def costs(results: Results) -> str:
    """What the parts of a run cost, by formula and as measured."""

    def find(start: str) -> dict[str, Any]:
        return next(row for row in results[H100]["rows"] if row["what"].startswith(start))

    speed = lambda row: rate(row["per_second"])
    large = find("dark_key_to_door:large")
    flop = large["model_tflop_per_second"] * 1e6 / large["per_second"]
    width, layers, context, updates, windows = (
        LARGE[key]
        for key in ("model.width", "model.num_layers", "model.context", "train.steps",
                    "train.batch_size")
    )  # fmt: skip
    minutes = updates * windows * context / large["per_second"] / 60
    of_attention = context / (12 * width + context)
    parameters = 12 * layers * width**2
    took = summary_of(PAPER_H100, results)["seconds"]["train"] / 60
    state = 3 * 4 * parameters / 2**30
    short, long = (speed(find(f"128 environments, ring cache, context {c}")) for c in (40, 320))
    collecting = (
        speed(find("PPO")),
        speed(next(row for row in results[CPU]["rows"] if row["stage"] == "collect")),
    )
    return table("cost | grows as | measured", [
        ["FLOPs of a transition, trained", "6 · 12 L E² + 6 L E T",
         f"`large` {flop:.0f} MFLOP, {100 * of_attention:.0f} % of them attention"],
        ["parameters", "12 L E²",
         f"`large` {rate(parameters)}; with two moments, float32: {state:.2f} GiB"],
        ["activations of a step", "windows × T × L × E; scores are never stored",
         f"`large`, one H100, 32 windows: {large['peak_memory_gib']:.0f} GiB; `model.remat` and "
         "`train.accumulate` lower it"],
        ["time of training", "updates × windows × T × FLOPs",
         f"one H100: `large`, {updates:,} updates, would take {minutes:.0f} minutes at its "
         f"measured rate; Dark Room's `paper` took {took:.0f}"],
        ["acting in context, a step of an environment", "12 L E² + L E T, and a cache of 2 L E T "
         "numbers", f"H100, width 64: {short} env steps/s at context 40, {long} at 320"],
        ["collecting", "tasks × streams × steps; memory by the tile, not by the number of tiles",
         "with learning: H100 {} env steps/s, two CPU cores {}".format(*collecting)],
        ["bytes of histories", "transitions", "[speed](performance.md#two-cpu-cores)"],
        ["devices", "collection and evaluation: nothing is exchanged. Training on `data`: one "
         "all-reduce of the gradients", ""],
    ])  # fmt: skip


def size_of(value: float) -> str:
    """A size on an axis, in the units that are usual for so many."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"


def growth(results: Results) -> str:
    """Costs at the smallest and the largest size, with their slopes and verdicts."""
    rows = []
    for row in results[GROWTH]["rows"]:
        if "slope" not in row:
            continue
        ends = lambda values: " → ".join(map(size_of, (values[0], values[-1])))
        slope, power = row["slope"], lambda value: f"{round(value, 2) + 0.0:.2f}"
        faster = row["verdict"] == "faster"
        rows.append([
            f"{row['chart']}: {row['what']}", f"{ends(row['sizes'])} {row['against']}",
            f"{ends(row['values']['median'])} {row['unit']}",
            f"n^{power(slope['median'])} ({power(slope['low'])} – {power(slope['high'])})",
            f"n^{power(row['must'])}: {row['law_text']}",
            f"**{row['verdict']}**" if faster else row["verdict"],
        ])  # fmt: skip
    measured = f"{sign(results[GROWTH]['device'])}; rounds: {results[GROWTH]['rounds']}.\n\n"
    return measured + table("cost | from → to | measured | grows as | must grow as | verdict", rows)


def larger_than_memory(results: Results) -> str:
    """Training on a data set larger than memory, and the parts of a start."""
    rows = results[GROWTH]["rows"]
    found = next(row for row in rows if "gb_stored" in row)
    share = times(found["of_the_speed_from_memory"])
    told = [
        ["data set larger than memory: bytes", f"{found['gb_stored']:.1f} GB"],
        ["what the process may allocate", f"{found['gb_allowed']:.1f} GB"],
        ["its memory at most", f"{found['gb_peak']:.1f} GB"],
        ["read from the disk meanwhile", f"{found['gb_read']:.2f} GB"],
        ["speed of training, of that from device memory", share],
    ]
    for row in rows:
        if "parts" in row:
            parts = ", ".join(f"{name} {each['median']:.1f}" for name, each in row["parts"].items())
            told.append([f"seconds of a start, {row['what']}", parts])
        if "packages" in row:
            heavy = ", ".join(f"{name} {value:.1f}" for name, value in row["packages"].items())
            told.append(["seconds of imports, the heaviest packages", heavy])
    return table("what | number", told)


def learners(results: Results) -> str:
    """The learners that come with the package."""
    rows = []
    for path, found in results.items():
        if path.startswith("ad_jax/weights/"):
            heldout, name = found["summary"]["heldout"], found["name"]
            rows.append([
                f"`{name}`", found["world"], f"{found['summary']['episodes']}",
                final(heldout), f"[card](../ad_jax/weights/{name}.md)",
            ])  # fmt: skip
    return table(
        "name | world | episodes | held-out return / optimal return, last tenth (95 %) "
        "| model card",
        rows,
    )


BLOCKS: dict[str, Callable[[Results], str]] = {
    made.__name__: made
    for made in (
        readme_environments, readme_speed,
        results_returns, results_runs, results_gymnax, dark_room_models, published,
        subsampling_trials, expert_trials, watermaze_trials, watermaze_encoders,
        quickstart_seeds, ablations, bench_time, speed_fair, speed_cpu, speed_conditions,
        sizes_and_start, checkpoints, speed_h100, tpu_steps, tpu_rooflines, costs, growth,
        larger_than_memory, learners,
    )
}  # fmt: skip


def main() -> None:
    """Writes the pages."""
    results = load()
    for page in pages():
        text = page.read_text()
        if (filled := fill(text, results)) != text:
            page.write_text(filled)
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
