"""What all pictures share: lines, the words below a figure, and how it is saved."""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# The colours of Okabe and Ito (https://jfly.uni-koeln.de/color/), which colour-blind readers can
# tell apart. Each has its own dash pattern and marker, for print in black and white.
LINES = (
    {"color": "#d55e00", "ls": "-", "marker": "o"},
    {"color": "#0072b2", "ls": (0, (6, 2)), "marker": "s"},
    {"color": "#009e73", "ls": (0, (4, 1.5, 1, 1.5)), "marker": "^"},
    {"color": "#cc79a7", "ls": (0, (2, 1)), "marker": "D"},
    {"color": "#e69f00", "ls": (0, (8, 2, 2, 2)), "marker": "v"},
    {"color": "#56b4e9", "ls": (0, (4, 1.5, 1, 1.5, 1, 1.5)), "marker": "P"},
    {"color": "#000000", "ls": (0, (8, 3)), "marker": "X"},
    {"color": "#7f7f7f", "ls": (0, (1, 1.2)), "marker": "*"},
    {"color": "#7b3f00", "ls": (0, (3, 1, 3, 3)), "marker": "p"},
)
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "----", "++++", "oooo", "**")
# Names that have the same line style in every picture; others get the style of their position.
OF_NAME = {
    "AD": 0, "ED": 1, "RL2": 2, "RL2, LSTM": 2, "RL2, transformer": 4, "source": 6,
    "source, one stream": 7, "random pulls": 7, "heldout": 0, "validation": 0,
    "train": 1, "even": 2, "uniform": 3, "DPT": 3, "ICIQL": 4, "AD, noise": 5, "BC": 7,
    "DICP": 6, "DPT, random": 8, "ED, noise-free expert": 3,
}  # fmt: skip
BOUND = "#555555"
SMOKE = "smoke preset: not a result"
_SMALL, _LEGEND = 8, 9  # points
_LETTER, _LINE = 0.0077, 0.0175  # inches for each point of a font: how wide, how high


def number(name: str, position: int = 0) -> int:
    """The index in ``LINES`` of the style for a name at a position in the picture."""
    return OF_NAME.get(name, position) % len(LINES)


def line(i: int) -> dict[str, Any]:
    """Keyword arguments of ``plot`` for a line style; markers of the styles are staggered."""
    return {"lw": 1.6, "ms": 4.5, "markevery": (0.015 * (i + 1), 0.14), **LINES[i]}


def sampled(seeds: int, what: str = "rollout") -> str:
    """What the intervals of means are taken over, in words."""
    return f"training seeds, tasks and {what}s" if seeds > 1 else f"tasks and {what}s of one model"


def panels(rows: int, columns: int, size: tuple[float, float], **shared: Any) -> tuple[Figure, Any]:
    """A figure of a size in inches, and its axes [rows, columns]."""
    figure = Figure(size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    for each in axes.flat:
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def bounds(axes: Any, levels: dict[str, float]) -> None:
    """Thin lines across, each with its name at the right, outside of the axes.

    Args:
      axes: where they are drawn.
      levels: values by name.
    """
    for name, value in levels.items():
        axes.axhline(value, color=BOUND, ls=":", lw=1, zorder=1)
        axes.annotate(
            textwrap.fill(name, 12), (1, value), (7, 0), xycoords=("axes fraction", "data"),
            va="center", textcoords="offset points", fontsize=_SMALL, color=BOUND,
        )  # fmt: skip


def band(axes: Any, x: Any, low: Any, high: Any, i: int) -> None:
    """The band of one of the lines."""
    axes.fill_between(x, low, high, color=LINES[i]["color"], alpha=0.18, lw=0)


def counted(count: int, what: str) -> str:
    """1 seed, 2 seeds."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def explain(figure: Figure, text: str, preset: str, legend: dict[str, Any] | None = None) -> None:
    """Adds a legend and an explanation below a figure, which becomes taller.

    Args:
      figure: complete otherwise.
      text: explains the lines and bands, and says how many seeds and rollouts there are.
      preset: named in the explanation; a smoke preset is also stamped across the figure.
      legend: artists by name.
    """
    legend = legend or {}
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(f"{text} Preset {preset}." if preset else text,
                          int(width / (_LETTER * _SMALL)))  # fmt: skip
    of_text = _LINE * _SMALL * (len(lines) + 0.5)
    entry = _LETTER * _LEGEND * max((len(name) + 8 for name in legend), default=1)
    columns = max(1, min(len(legend), int(width / entry)))
    below = of_text + _LINE * _LEGEND * (1.3 * -(-len(legend) // columns) + 0.4)
    total = height + below
    figure.set_figheight(total)
    figure.get_layout_engine().set(rect=(0, below / total, 1, height / total))
    where = {"transform": figure.transFigure, "color": BOUND, "fontsize": _SMALL}
    figure.text(0.1 / width, of_text / total, "\n".join(lines), va="top", **where)
    if legend:
        figure.legend(
            legend.values(), legend, loc="lower center", bbox_to_anchor=(0.5, of_text / total),
            ncols=columns, frameon=False, fontsize=_LEGEND, borderaxespad=0.1, handlelength=3,
        )  # fmt: skip
    if "smoke" in preset:
        figure.text(
            0.5, 0.55, SMOKE, ha="center", va="center", rotation=15, alpha=0.55, weight="bold",
            color=LINES[0]["color"], fontsize=min(30, 4 * width), zorder=9,
        )  # fmt: skip


def named(*axes: Any) -> dict[str, Any]:
    """The legend entries of some axes: artists by name."""
    return {
        name: artist
        for each in axes
        for artist, name in zip(*each.get_legend_handles_labels(), strict=True)
    }


def save(
    figure: Figure, path: Any, dpi: int = 200, suffixes: Sequence[str] = (".png", ".pdf")
) -> list[str]:
    """Writes a figure as PNG and as PDF; the same figure gives the same bytes.

    Args:
      figure: of ``panels``.
      path: of the PNG; the PDF is beside it.
      dpi: of what is made of pixels.
      suffixes: of what is written.

    Returns:
      The names of the files.
    """
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # letters as text, which journals ask for
        for suffix in suffixes:
            stamp = {"CreationDate": None} if suffix == ".pdf" else {}
            figure.savefig(path.with_suffix(suffix), dpi=dpi, metadata=stamp)
    return [path.with_suffix(suffix).name for suffix in suffixes]
