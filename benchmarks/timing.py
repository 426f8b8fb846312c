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


def table(
    stage: str, unit: str, seconds: dict[str, np.ndarray], amounts: dict[str, float]
) -> list[dict]:
    """A line for each candidate; the first one is compared with all others, round by round.

    Args:
      stage: which benchmark.
      unit: of the work.
      seconds: [rounds] of each candidate, ours first.
      amounts: work of each candidate in a round.
    """
    ours = next(iter(seconds))
    lines = []
    for name, times in seconds.items():
        line = {"stage": stage, "what": name, "unit": unit}
        line["per_second"] = amounts[name] / float(np.median(times))
        if name != ours:
            ratios = (amounts[ours] / seconds[ours]) / (amounts[name] / times)
            low, middle, high = np.percentile(ratios, [0, 50, 100]).tolist()
            line["first_is_times"] = {"median": middle, "low": low, "high": high}
        lines.append(line)
    return lines
