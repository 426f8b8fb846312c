"""Figure 1: the method as a drawing of our own."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure as Picture
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from experiments.figures.figure import Figure
from experiments.pictures import style

_SOURCE, _DATA, _MODEL = "#d6eaf8", "#fcf3cf", "#fadbd8"
# (left, bottom, width, height, colour, text)
_BOXES = (
    *((0.0, 2.2 - 1.1 * i, 2.0, 0.8, _SOURCE, f"source learner\non task {n}")
      for i, n in enumerate(("1", "2", "N"))),
    *((3.0, 2.2 - 1.1 * i, 3.6, 0.8, _DATA, "worst episodes  …  best episodes")
      for i in range(3)),
    (7.8, 0.75, 2.7, 1.5, _MODEL, "causal transformer\n$p(a_t \\mid$ history$_{<t},\\ o_t)$\n"
                                  "next-action prediction"),
    (11.5, 0.75, 2.7, 1.5, _MODEL, "weights frozen,\non a held-out task:\nlearns in context"),
)  # fmt: skip
_ARROWS = (
    *(((2.0, 2.6 - 1.1 * i), (3.0, 2.6 - 1.1 * i)) for i in range(3)),
    *(((6.6, 2.6 - 1.1 * i), (7.8, 1.5)) for i in range(3)),
    ((10.5, 1.5), (11.5, 1.5)),
)
_HEADINGS = ((1.0, "reinforcement learning"), (4.8, "learning histories"), (9.15, "distillation"),
             (12.85, "evaluation"))  # fmt: skip


def draw(made: Mapping[str, Any]) -> Picture:
    """The picture."""
    figure, [[ax]] = style.panels(1, 1, (11, 3.2))
    for left, bottom, width, height, color, text in _BOXES:
        shape = FancyBboxPatch(
            (left, bottom), width, height, boxstyle="round,pad=0.02,rounding_size=0.12",
            facecolor=color, edgecolor=style.BOUND,
        )  # fmt: skip
        ax.add_patch(shape)
        ax.text(left + width / 2, bottom + height / 2, text, ha="center", va="center", fontsize=9)
    for begin, end in _ARROWS:
        ax.add_patch(FancyArrowPatch(begin, end, arrowstyle="-|>", mutation_scale=11, color="#444"))
    for x, text in _HEADINGS:
        ax.text(x, 3.3, text, ha="center", fontsize=10, weight="bold")
    # The model's actions and what follows them come back into its context.
    ax.add_patch(FancyArrowPatch(
        (13.6, 0.73), (12.1, 0.73), connectionstyle="arc3,rad=-0.7", arrowstyle="-|>",
        mutation_scale=11, color=style.LINES[0]["color"],
    ))  # fmt: skip
    fed_back = "actions, observations, rewards"
    ax.text(12.85, -0.12, fed_back, ha="center", fontsize=8, color=style.LINES[0]["color"])
    ax.set_xlim(-0.2, 14.4)
    ax.set_ylim(-0.4, 3.6)
    ax.axis("off")
    figure.suptitle(made["title"], fontsize=12)
    return figure


FIGURE = Figure(
    title="Algorithm distillation", runs=lambda preset: {}, panels=lambda results: [], draw=draw
)
