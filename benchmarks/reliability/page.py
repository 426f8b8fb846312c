"""docs/reliability.md, from benchmarks/results/reliability.json."""

import collections
import json
from typing import Any

from benchmarks.reliability.kills import PHASES, ROOT, SIGNALS

RESULTS = ROOT / "benchmarks" / "results" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"
# Kinds of kills by number of processes and how many of them got the signal.
_KINDS = {"one process": (1, 1), "one of two processes": (2, 1), "both processes": (2, 2)}
_SHORT = {"start": "start-up", "checkpoint": "writing a checkpoint"}


def write() -> None:
    """Writes the page."""
    stored = json.loads(RESULTS.read_text())
    PAGE.write_text("\n".join([_HEAD, *_kills(stored["trials"]), "", *_inputs(stored["inputs"])]))


def _kills(trials: list[dict[str, Any]]) -> list[str]:
    kills = [(t["processes"], k) for t in trials for k in t["kills"]]
    count = collections.Counter(
        (k["landed"], k["signal"], (processes, len(k["whom"]))) for processes, k in kills
    )
    lost = [t for t in trials if t["lost"]]
    faults = [t for t in trials if t["faults"]]
    late = sum(not any(kill["statuses"]) for _, kill in kills)
    commits = ", ".join(sorted({t["commit"] for t in trials}))
    lines = [
        "## Kills",
        "",
        f"{len(kills)} kills in {len(trials)} runs, at commits {commits}. {len(kills) - late} "
        f"ended the run; {late} signals came while the run drew its report, and it finished first. "
        f"Runs that lost something: {len(lost) or 'none'}. "
        f"Runs in which a process hung or failed: {len(faults) or 'none'}.",
        "",
        "| phase | " + " | ".join(f"{s}, {kind}" for s in SIGNALS for kind in _KINDS) + " | lost |",
        "|---" * (len(SIGNALS) * len(_KINDS) + 2) + "|",
    ]
    for phase in PHASES:
        cells = [count[phase, s, kind] for s in SIGNALS for kind in _KINDS.values()]
        hit = [t for t in lost if any(k["landed"] == phase for k in t["kills"])]
        what = sorted({name for t in hit for name in t["lost"]})
        lines.append(
            f"| {_SHORT.get(phase, phase)} | {' | '.join(map(str, cells))} | "
            f"{', '.join(what) or 'nothing'} |"
        )
    return lines + [
        f"\nRun {t['trial']}, {t['processes']} process(es): "
        f"lost {', '.join(t['lost']) or 'nothing'}; {'; '.join(t['faults'])}"
        for t in trials
        if t["lost"] or t["faults"]
    ]


def _inputs(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    cases = [case for group in groups.values() for case in group]
    faulty = [case for case in cases if case["faults"]]
    cell = lambda text: text.replace("|", "\\|").replace("\n", " ")
    lines = [
        "## Bad input",
        "",
        f"{len(cases) - len(faulty)} of {len(cases)} bad inputs were answered with one clear line "
        "before any work. What an environment returns is only known during collection, so errors "
        "such as a NaN reward end the first stage; what was there before stays unchanged.",
    ]
    for name, group in groups.items():
        lines += ["", f"### {name}", "", "| input | what the program says |", "|---|---|"]
        for case in group:
            fault = f" **({'; '.join(case['faults'])})**" if case["faults"] else ""
            lines.append(f"| {cell(case['name'])} | {cell(case['said'])}{cell(fault)} |")
    return [*lines, ""]


_HEAD = """# Reliability

What a run loses when it is killed, and how the program answers bad input. `python -m
benchmarks.reliability` measures both and writes this page
([all numbers](../benchmarks/results/reliability.json)). The tests contain a short form of both.

A run of a small Dark Room is started, killed, and started again by the same command, about ten
times, until it finishes. Each kill is aimed at a phase, and comes at a random moment within it. The
table counts kills by the phase in which they arrived. Training writes five rows of metrics and
seven checkpoints, at different steps. A third of the runs have two processes, connected over the
loopback interface; a signal goes to one of them or to both.

Each run is then compared, bit for bit, with one that was not killed: the shards of the histories
and their metadata, every row of metrics.jsonl, the parameters and the optimizer's state of the last
checkpoint, all arrays of the evaluation, summary.json and the pictures. Only wall-clock times may
differ, and no temporary file may be left.
"""
