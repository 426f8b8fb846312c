"""The slope of a cost, compared with the slope that it must have.

Costs are fitted as size^slope: a straight line through the logarithms, by least squares, separately
for each round. The fit uses the larger half of the sizes, where fixed costs no longer hide the
growth. The law is fitted to the same sizes.

The verdict: a cost grows *faster* than it must if its slope exceeds that of its law by more than
``TOLERANCE`` in every round; *slower* likewise; otherwise *as it must*.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

TOLERANCE = 0.1  # of a slope: a quarter more for ten times the work
FASTER, AS_IT_MUST, SLOWER = "faster", "as it must", "slower"


class Line(NamedTuple):
    """A cost at several sizes.

    Attributes:
      chart: of which it is a line.
      what: the cost, in words.
      unit: of the cost.
      against: what the sizes count.
      sizes: [sizes], in ascending order.
      values: [rounds, sizes], the cost; greater than 0.
      law: [sizes], in any unit, the cost that the work needs.
      law_text: the same in words or as a formula.
    """

    chart: str
    what: str
    unit: str
    against: str
    sizes: Sequence[float]
    values: Sequence[Sequence[float]]
    law: Sequence[float]
    law_text: str


def larger_half(number: int) -> slice:
    """Of so many sizes in ascending order: the middle one and those after it, at least two."""
    return slice(-max(2, math.ceil((number + 1) / 2)), None)


def slopes(sizes: Sequence[float], values: Sequence[Sequence[float]]) -> np.ndarray:
    """The slope of each round over the larger half of the sizes (at least two), float [rounds].

    Args:
      sizes: [sizes], ascending.
      values: [rounds, sizes].
    """
    half = larger_half(len(sizes))
    return np.polyfit(np.log(sizes[half]), np.log(np.array(values)[:, half]).T, 1)[0]


def verdict(found: np.ndarray, must: float) -> str:
    """The verdict, from the slopes of all rounds and that of the law; see the module."""
    if found.min() > must + TOLERANCE:
        return FASTER
    return SLOWER if found.max() < must - TOLERANCE else AS_IT_MUST


def spread(values) -> dict[str, Any]:
    """The lowest, the median and the highest of the first axis."""
    found = np.percentile(np.array(values, float), [0, 50, 100], 0).tolist()
    return dict(zip(("low", "median", "high"), found, strict=True))


def row(line: Line) -> dict:
    """A line as JSON, with its slope and verdict.

    Raises:
      ValueError: a cost is not greater than 0, so that it has no logarithm.
    """
    if not (np.array(line.values) > 0).all():
        raise ValueError(
            f"{line.chart}: {line.what}: of {list(line.sizes)} {line.against}, "
            f"{np.array(line.values).tolist()} {line.unit} is not always greater than 0: "
            "measure more work at once"
        )
    found = slopes(line.sizes, line.values)
    must = float(slopes(line.sizes, [line.law])[0])
    return {
        "stage": "growth", **line._asdict(), "sizes": list(map(float, line.sizes)),
        "law": list(map(float, line.law)), "values": spread(line.values),
        "slope": spread(found), "must": must, "verdict": verdict(found, must),
    }  # fmt: skip


def describe(row: dict) -> str:
    """A row of any of the charts as a line of text."""
    text = f"growth   {row['chart']}: {row['what']}"
    between = "{median:.3g} [{low:.3g}, {high:.3g}]".format
    if "slope" in row:
        cost = f"{row['values']['median'][-1]:.3g} {row['unit']} at {row['sizes'][-1]:.3g}"
        return (f"{text}: {cost} {row['against']}, grows as n^{between(**row['slope'])}, "
                f"must as n^{row['must']:.2f}: {row['verdict']}")  # fmt: skip
    numbers = {k: v for k, v in row.items() if k not in ("stage", "chart", "what", "unit")}
    flat = {**numbers.pop("parts", {}), **numbers.pop("packages", {}), **numbers}
    shown = [f"{k} {between(**v) if isinstance(v, dict) else f'{v:.3g}'}" for k, v in flat.items()]
    return f"{text} ({row['unit']}): {', '.join(shown)}"


def in_turns(work: Sequence[Callable[[], float]], rounds: int) -> np.ndarray:
    """What functions return, float [rounds, functions], after one round that does not count."""
    return np.array([[each() for each in work] for _ in range(1 + rounds)])[1:]
