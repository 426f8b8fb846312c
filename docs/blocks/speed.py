"""The speed of all stages, compared with peers."""

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from docs.blocks.words import (
    Results,
    factor,
    number,
    rate,
    sign,
    table,
    times,
)

CPU, H100 = "benchmarks/results/cpu_2_cores.json", "benchmarks/results/h100.json"


def readme_speed(results: Results) -> str:
    """Our speed compared with that of others, in one sentence."""
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
    return f"On two CPU cores, compared with the best configuration found for each peer,\n{said}."


def least_fair(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each of our rows beside the best of each fair peer; the smallest ratio first."""
    fair = (row for row in rows if row.get("fair"))
    least: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in sorted(fair, key=lambda row: row["ours_is_times"]["median"]):
        least.setdefault((row["beside"], row["peer"]), row)
    return list(least.values())


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
    """Each of our rows beside the best configuration found for a peer."""
    found = results[CPU]["rows"]
    ours = {row["what"]: row for row in found}
    rows = []
    for row in least_fair(found):
        mine = ours[row["beside"]]
        rows.append([
            f"{mine['stage']}: {row_name(mine)}", f"{rate(mine['per_second'])} {mine['unit']}",
            row_name(row), rate(row["per_second"]), times(row["ours_is_times"]),
        ])  # fmt: skip
    return table(
        "stage | ours, per second | peer, at its best | peer, per second | ours / peer", rows
    )


def speed_conditions(results: Results) -> str:
    """For each peer, what is the same, what differs, and its settings; and who is left out."""
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
    elsewhere = ("cores",)  # on the page of the arena
    rows_here = (row for row in results[CPU]["rows"] if row["stage"] not in elsewhere)
    timed = [row for row in rows_here if "per_second" in row]
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
    return table(
        "stage | ours, per second | compared with | its own, per second | ours / its own", rows
    )


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


BLOCKS = (
    readme_speed,
    bench_time,
    speed_fair,
    speed_conditions,
    speed_cpu,
    sizes_and_start,
    checkpoints,
    speed_h100,
)
