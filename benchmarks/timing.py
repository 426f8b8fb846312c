"""Fair timings on a noisy machine: the candidates take turns, and ratios are taken turn by turn."""

import time
from collections.abc import Callable

import numpy as np


def interleave(candidates: dict[str, Callable[[], None]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each candidate in each round, after one round that is not counted.

    Args:
      candidates: functions that return when their work is done.
      rounds: how often each is timed.

    Returns:
      float [rounds] for each candidate.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):
        for name, work in candidates.items():
            began = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: np.array(values) for name, values in seconds.items()}


def row(stage: str, what: str, amount: float, seconds: np.ndarray, unit: str, against=None) -> dict:
    """One line of the table: throughput, and its ratio to another candidate's, round by round.

    Args:
      stage: which benchmark.
      what: the candidate.
      amount: of work in one round.
      seconds: [rounds].
      unit: of the work.
      against: (name, seconds [rounds], amount) of the one it is compared with.
    """
    line = {
        "stage": stage,
        "what": what,
        "per_second": amount / float(np.median(seconds)),
        "unit": unit,
    }
    if against:
        name, other, other_amount = against
        ratios = (amount / seconds) / (other_amount / other)
        low, middle, high = np.percentile(ratios, [0, 50, 100])
        line["ratio"] = {"to": name, "median": middle, "low": low, "high": high}
    return line
