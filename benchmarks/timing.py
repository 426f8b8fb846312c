"""Fair timings on a noisy machine: the candidates take turns, and ratios are taken turn by turn."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np


class Candidate(NamedTuple):
    """One program in a comparison.

    Attributes:
      work: a function that returns when its work is done.
      amount: amount of that work, in the unit of the table.
      facts: further entries of its row. ``beside`` is the name of the candidate that it is compared
        with, by default the first one; None for a row of ours, which is compared with none. Peers
        also have ``peer``, their name; ``fair``, whether this is the best configuration that we
        found for this work; ``equal`` and ``differs``, the conditions; ``setting``, how it was run;
        and ``version``.
    """

    work: Callable[[], object]
    amount: float
    facts: Mapping[str, Any] = {}


def compare(
    stage: str, unit: str, candidates: Mapping[str, Candidate], rounds: int
) -> list[dict[str, Any]]:
    """Times the candidates in turn; a row for each, as ``table`` makes them."""
    seconds = interleave({name: one.work for name, one in candidates.items()}, rounds)
    amounts = {name: one.amount for name, one in candidates.items()}
    facts = {name: one.facts for name, one in candidates.items()}
    return table(stage, unit, seconds, amounts, facts)


def interleave(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict:
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
    stage: str,
    unit: str,
    seconds: Mapping[str, np.ndarray],
    amounts: Mapping[str, float],
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """A row for each candidate; those of others are compared with ours, round by round.

    Args:
      stage: which benchmark.
      unit: of the work.
      seconds: [rounds] of each candidate, ours first.
      amounts: work of each candidate in a round.
      facts: see ``Candidate``.
    """
    first, rows = next(iter(seconds)), []
    for name, times in seconds.items():
        row = {"stage": stage, "what": name, "unit": unit}
        row["per_second"] = amounts[name] / float(np.median(times))
        row |= {"beside": None if name == first else first, **(facts or {}).get(name, {})}
        if row["beside"]:
            ours = row["beside"]
            ratios = (amounts[ours] / seconds[ours]) / (amounts[name] / times)
            low, middle, high = np.percentile(ratios, [0, 50, 100]).tolist()
            row["ours_is_times"] = {
                "median": middle, "low": low, "high": high, "rounds": len(times)
            }  # fmt: skip
        rows.append(row)
    return rows
