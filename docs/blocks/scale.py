"""What large models and many devices cost, and how costs grow."""

from typing import Any

from docs.blocks.returns import PAPER_H100
from docs.blocks.speed import CPU, H100
from docs.blocks.words import (
    Results,
    link,
    number,
    rate,
    sign,
    size_of,
    summary_of,
    table,
    times,
)
from experiments.configs.common import LARGE

GROWTH = "benchmarks/results/growth.json"


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
    """Approximate lower bounds on the times of the same steps."""
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
        ["its resident memory at most, with the pages of files", f"{found['gb_peak']:.1f} GB"],
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


BLOCKS = (
    tpu_steps,
    tpu_rooflines,
    costs,
    growth,
    larger_than_memory,
)
