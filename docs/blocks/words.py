"""Formats numbers for pages: tables, links, intervals, rates."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

# The results by their paths, such as "docs/results/watermaze.json".
Results = Mapping[str, Any]


def summary_of(path: str, results: Results) -> dict[str, Any]:
    """The summary of a run, whether the file is that summary or a learner's results with it."""
    return results[path].get("summary", results[path])


def table(header: str, rows: Iterable[Iterable[str]]) -> str:
    """A table; ``header`` has its columns with bars between them."""
    columns = header.split(" | ")
    line = lambda cells: f"| {' | '.join(cells)} |"
    return "\n".join([line(columns), "|" + "---|" * len(columns), *map(line, rows)])


def link(text: str, path: str) -> str:
    """A link to a file, from a page in docs."""
    return f"[{text}]({os.path.relpath(path, 'docs')})"


def number(value: float | None, digits: int = 3) -> str:
    """A number with up to two decimals, fewer if it would have more than ``digits`` digits."""
    if value is None:
        return "–"
    return f"{value:.{max(0, min(2, digits - len(str(int(abs(value))))))}f}"


def interval(ends: Iterable[float | None]) -> str:
    return " – ".join(map(number, ends))


def mean(found: Mapping[str, Any]) -> str:
    """A mean of a figure, with its interval."""
    return f"**{number(found['mean'])}** ({interval(found['ci95'])})"


def final(group: Mapping[str, Any]) -> str:
    """The last tenth, normalised, with its interval."""
    if group["final"] is None:
        return "–"
    return f"{number(group['final'])} ({interval(group['final_ci95'])})"


def optimum(summary: Mapping[str, Any]) -> str:
    """The optimal return; whole numbers have no decimals."""
    return f"{float(number(summary['optimal_return'])):g}"


def factor(value: float) -> str:
    """A ratio with at least two significant digits."""
    return f"{value:.2g}" if value < 1 else number(value, 3 if value < 2 else 2)


def times(ratio: Mapping[str, float]) -> str:
    """A ratio with its lowest and highest."""
    return f"{factor(ratio['median'])} ({factor(ratio['low'])} – {factor(ratio['high'])})"


def rate(value: float) -> str:
    """A rate, in millions or thousands if it is large."""
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


def size_of(value: float) -> str:
    """A size on an axis, with the prefix k, M or G if it is large."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"
