"""How costs grow with the amount of work: a chart for each kind of work, and slopes of its lines.

    python -m benchmarks.run --stages=growth --output=benchmarks/results/growth.json
    python -m benchmarks.growth.picture
    python -m docs.fill

A line is a cost, measured at several sizes in several rounds. Its *law* is the cost that the work
requires, from a count of operations or bytes. Both are fitted as size^slope; see ``fit`` for the
verdict.
"""

import importlib

REPETITIONS = 3
CHARTS = ("collecting", "training", "acting", "devices", "histories", "limited", "starting")
# What --quick leaves of the sizes of each chart.
SMALL = {
    "collecting": {"tasks": (1, 10, 100)},
    "training": {"contexts": (80, 320), "parameters": (1e5, 1e6), "compiled": (1e7,)},
    "acting": {"contexts": (80, 320), "tasks": (1, 10, 100)},
    "devices": {"devices": (1, 2, 4)},
    "histories": {"sizes": (1e7, 1e8, 1e9)},
}
# What --quick leaves out: no process can start in half of the bytes of a small data set.
LARGE = ("limited",)


def run(rounds: int, small: bool = False) -> list[dict]:
    """The rows of all charts: lines as of ``fit.row``, and what is no line.

    Args:
      rounds: how often each size is measured, at most ``REPETITIONS``.
      small: only the sizes in ``SMALL``, without the charts in ``LARGE``.
    """
    rounds, sizes = min(rounds, REPETITIONS), SMALL if small else {}
    names = [name for name in CHARTS if not (small and name in LARGE)]
    charts = {name: importlib.import_module(f"benchmarks.growth.{name}") for name in names}
    return [row for name, c in charts.items() for row in c.run(rounds, **sizes.get(name, {}))]
