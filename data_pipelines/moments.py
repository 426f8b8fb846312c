"""The scale of a data set: moments of its rewards and, where they are floats, its observations.

``provenance.json`` has them under "statistics"; ``model.normalize`` reads them from there.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from data_pipelines.schema import Schema

# JSON values: "count" of steps; "mean" and "deviation" of each component, row-major.
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
        counts = [int((reward == level).sum()) for level in range(len(schema.reward_levels))]
        levels = [
            _moments(n, [v], [0.0]) for n, v in zip(counts, schema.reward_levels, strict=True)
        ]
        found = {"reward": pooled(levels)}
    if schema.observation_sizes is None and schema.raw_dtype == "float32":
        observation = np.asarray(fields["observation"])
        found["observation"] = _of(observation.reshape(-1, math.prod(schema.observation_shape)))
    return found


def pooled(parts: Sequence[Moments]) -> Moments:
    """The moments of all steps, from those of parts of them."""
    count = np.array([part["count"] for part in parts], float)
    mean_PxC = np.array([part["mean"] for part in parts])
    square_PxC = np.square([part["deviation"] for part in parts])
    mean = count @ mean_PxC / count.sum()
    variance = count @ (square_PxC + np.square(mean_PxC - mean)) / count.sum()
    return _moments(int(count.sum()), mean.tolist(), np.sqrt(variance).tolist())


def _of(values: np.ndarray) -> Moments:
    mean, deviation = values.mean(0, np.float64), values.std(0, np.float64)
    return _moments(len(values), mean.tolist(), deviation.tolist())


def _moments(count: int, mean: list[float], deviation: list[float]) -> Moments:
    return {"count": count, "mean": mean, "deviation": deviation}
