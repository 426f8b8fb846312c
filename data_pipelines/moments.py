"""The scale of a data set: moments of its rewards and, where they are floats, its observations.

``provenance.json`` has them under "statistics"; ``model.normalize`` reads them from there.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from data_pipelines.schema import Schema

# JSON values: "count" of steps; "mean", "deviation", "low" and "high" of each component, row-major.
# The deviation is 0 where all values are the same, without rounding.
Moments: TypeAlias = dict[str, Any]


def of_steps(schema: Schema, fields: dict[str, Any]) -> dict[str, Moments]:
    """Moments of encoded steps with any leading axes, by field.

    Returns:
      Those of the reward, and of an observation that is stored as float32.
    """
    reward = np.asarray(fields["reward"])
    if schema.reward_levels is None:
        found = {"reward": _of(reward.reshape(-1, 1))}
    else:  # many steps, few levels
        counts = [int((reward == i).sum()) for i in range(len(schema.reward_levels))]
        seen = [(n, [v]) for n, v in zip(counts, schema.reward_levels, strict=True) if n]
        found = {"reward": pooled([_moments(n, v, [0.0], v, v) for n, v in seen])}
    if schema.observation_sizes is None and schema.raw_dtype == "float32":
        observation = np.asarray(fields["observation"])
        found["observation"] = _of(observation.reshape(-1, math.prod(schema.observation_shape)))
    return found


def pooled(parts: Sequence[Moments]) -> Moments:
    """The moments of all steps, from those of parts of them."""
    count = np.array([part["count"] for part in parts], float)
    mean_PxC, deviation_PxC, low_PxC, high_PxC = (
        np.array([part[name] for part in parts]) for name in ("mean", "deviation", "low", "high")
    )
    mean = count @ mean_PxC / count.sum()
    variance = count @ (np.square(deviation_PxC) + np.square(mean_PxC - mean)) / count.sum()
    low, high = low_PxC.min(0), high_PxC.max(0)
    deviation = np.where(high > low, np.sqrt(variance), 0.0)
    return _moments(int(count.sum()), *(x.tolist() for x in (mean, deviation, low, high)))


def _of(values: np.ndarray) -> Moments:
    low, high = values.min(0), values.max(0)
    mean = values.mean(0, np.float64)
    deviation = np.where(high > low, values.std(0, np.float64), 0.0)
    return _moments(len(values), *(x.tolist() for x in (mean, deviation, low, high)))


def _moments(
    count: int, mean: list[float], deviation: list[float], low: list[float], high: list[float]
) -> Moments:
    return {"count": count, "mean": mean, "deviation": deviation, "low": low, "high": high}
