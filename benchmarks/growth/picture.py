"""Draws docs/images/growth.png, and a PDF beside it, from the committed results.

python -m benchmarks.growth.picture
"""

import itertools
import json
import pathlib
import textwrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

from benchmarks.growth import fit
from experiments.pictures import style

RESULTS = pathlib.Path("benchmarks/results/growth.json")
PICTURE = pathlib.Path("docs/images/growth.png")
COLUMNS, SIZE, DPI = 4, (3.1, 2.5), 110  # inches of a panel
LAW = {"color": style.BOUND, "lw": 1, "ls": ":"}
TEXT = (
    "Markers are medians; bars span all repetitions. Dotted lines are the law, which is what the "
    "work requires, drawn through the larger half of the sizes, to which both slopes are fitted. "
    "{device}."
)


def main() -> None:
    table = json.loads(RESULTS.read_text())
    style.save(draw(table), PICTURE, DPI)
    print(PICTURE)


def draw(table: dict[str, Any]) -> Figure:
    """A panel for each cost, then one for the parts of a start, and one for memory, if measured.

    Args:
      table: of ``benchmarks.run --stages=growth``.
    """
    lines = [row for row in table["rows"] if "slope" in row]
    panel_of = lambda row: (row["chart"], row["what"].partition(", ")[0])
    panels = [(key, list(rows)) for key, rows in itertools.groupby(lines, key=panel_of)]
    starts = [row for row in table["rows"] if "parts" in row]
    large = [row for row in table["rows"] if "gb_stored" in row]
    number = len(panels) + bool(starts) + bool(large)
    rows = -(-number // COLUMNS)
    figure, axes = style.panels(rows, COLUMNS, (SIZE[0] * COLUMNS, SIZE[1] * rows))
    free = iter(axes.flat)
    for (chart, cost), of_panel in panels:
        axis = next(free)
        axis.set_title(textwrap.fill(f"{chart}: {cost}", 34), fontsize=9)
        _lines(axis, of_panel)
    if starts:
        _parts(next(free), starts)
    if large:
        _memory(next(free), large[0])
    for axis in free:
        axis.set_axis_off()
    style.explain(figure, TEXT.format(device=table["device"].replace(" x ", " × ")), "")
    return figure


def _lines(axis: Any, rows: list[dict[str, Any]]) -> None:
    """Costs against sizes, both logarithmic, with the slope in the legend."""
    for i, row in enumerate(rows):
        sizes, values, law = np.array(row["sizes"]), row["values"], np.array(row["law"])
        middle = np.array(values["median"])
        look = style.LINES[i]
        axis.errorbar(
            sizes, middle, [middle - values["low"], values["high"] - middle],
            lw=1.4, ms=4, capsize=2, **look, label=_label(row),
        )  # fmt: skip
        half = fit.larger_half(len(sizes))
        axis.plot(sizes, law * np.exp(np.log(middle[half] / law[half]).mean()), **LAW)
    axis.set(xscale="log", yscale="log", xlabel=rows[0]["against"], ylabel=rows[0]["unit"])
    low, high = axis.get_ylim()  # a cost that stays the same looks so
    if high < 10 * low:
        middle = (low * high) ** 0.5
        axis.set_ylim(middle / 10**0.6, middle * 10**0.6)
    axis.set_xticks(sorted({size for row in rows for size in row["sizes"]}))
    decades = np.log10(axis.get_ylim()[1] / axis.get_ylim()[0])
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,), numticks=7))
    axis.yaxis.set_major_formatter(FuncFormatter(_short))
    axis.xaxis.set_major_formatter(FuncFormatter(_short))
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_minor_formatter(NullFormatter())
    axis.tick_params(labelsize=7)
    axis.tick_params("x", which="minor", bottom=False)
    axis.legend(fontsize=6.5, framealpha=0.8, edgecolor="none", handlelength=2.2, borderaxespad=0.2)


def _label(row: dict[str, Any]) -> str:
    name = row["what"].partition(", ")[2]
    slope, must = (round(value, 2) + 0.0 for value in (row["slope"]["median"], row["must"]))
    slope = f"$n^{{{slope:.2f}}}$, law $n^{{{must:.2f}}}$"
    return f"{name}: {slope}" if name else slope


def _short(value: float, _: int) -> str:
    """A number on an axis: 0.2, 50, 10 k, 100 G."""
    return EngFormatter()(float(f"{value:.2g}")) if value >= 1e3 else f"{value:g}"


def _parts(axis: Any, rows: list[dict[str, Any]]) -> None:
    """Seconds of a start, one part after the other."""
    axis.set_title("parts of a start", fontsize=9)
    names = [row["what"] for row in rows]
    left = np.zeros(len(rows))
    for i, part in enumerate(rows[0]["parts"]):
        width = np.array([row["parts"][part]["median"] for row in rows])
        axis.barh(
            names, width, left=left, label=part, color=style.LINES[i]["color"],
            hatch=style.HATCHES[i], edgecolor="white", height=0.55,
        )  # fmt: skip
        left += width
    axis.invert_yaxis()
    axis.set_ylim(1.6, -1.3)
    axis.set(xlabel="s")
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=6.5, frameon=False, ncols=2, loc="upper right")


def _memory(axis: Any, row: dict[str, Any]) -> None:
    """Bytes of a data set larger than memory."""
    share = row["of_the_speed_from_memory"]
    title = "{median:.2f} ({low:.2f} – {high:.2f}) of the speed from device memory".format(**share)
    axis.set_title(textwrap.fill(f"{row['chart']}: {title}", 36), fontsize=9)
    shown = {"data set": "gb_stored", "may be\nallocated": "gb_allowed", "peak": "gb_peak"}
    axis.bar(list(shown), [row[key] for key in shown.values()], width=0.5,
             color=[line["color"] for line in style.LINES])  # fmt: skip
    axis.set(ylabel="GB")
    axis.tick_params(labelsize=8)


if __name__ == "__main__":
    main()
