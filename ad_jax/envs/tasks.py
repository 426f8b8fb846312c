"""What a task is, how tasks are numbered, and how they are split."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ad_jax.errors import UserError

MAX_TASK_ID = 2**31 - 1


class Split(NamedTuple):
    """Disjoint tasks, each group a sorted int32 array of ids.

    Attributes:
      train: tasks that a model is trained on.
      validation: tasks on which settings are chosen.
      heldout: tasks on which results are reported; nothing is chosen on them.
    """

    train: np.ndarray
    validation: np.ndarray
    heldout: np.ndarray


@dataclasses.dataclass(frozen=True)
class TaskDistribution:
    """Tasks of one environment, each identified by an integer.

    Attributes:
      params: ``params(task_ids) -> EnvParams`` for int32 [n]; every leaf gets a leading axis [n].
      num_tasks: how many tasks there are; they are numbered from 0. ``None`` if they can't be
        enumerated: then every id below 2**31 - 1 seeds a task of its own.
      shifted: other distributions of tasks, by name, on which a model trained on this one is
        tested as well.
    """

    params: Callable[[np.ndarray], Any]
    num_tasks: int | None
    shifted: Mapping[str, "TaskDistribution"] = dataclasses.field(default_factory=dict)

    def split(
        self, seed: int, num_heldout: int, num_validation: int = 0, num_train: int | None = None
    ) -> Split:
        """Draws disjoint groups of tasks, uniformly and without replacement.

        The held-out tasks depend only on ``seed`` and ``num_heldout``, and the validation tasks
        also on ``num_validation``. So runs with fewer or more training tasks are evaluated on the
        same tasks.

        Args:
          seed: of the draw.
          num_heldout: number of held-out tasks.
          num_validation: number of tasks for validation.
          num_train: number of training tasks; ``None`` takes all that are left, if the tasks can be
            enumerated.

        Raises:
          UserError: there are not that many tasks, or ``num_train`` is needed but missing.
        """
        if self.num_tasks is None:
            if num_train is None:
                raise UserError("tasks.num_train must be set: this environment has unlimited tasks")
            total = MAX_TASK_ID
        else:
            total = self.num_tasks
            if num_train is None:
                num_train = max(1, total - num_heldout - num_validation)
        numbers = num_heldout, num_validation, num_train
        if min(numbers) < 0 or num_train < 1 or sum(numbers) > total:
            raise UserError(
                f"tasks: {num_heldout} held out, {num_validation} for validation and {num_train} "
                f"or more for training are more than the environment's {total}: lower "
                "tasks.num_heldout, tasks.num_validation or tasks.num_train"
            )
        rng = np.random.default_rng(seed)
        if self.num_tasks is None:
            ids = _distinct_ids(rng, sum(numbers))
        else:
            ids = rng.permutation(total).astype(np.int32)
        heldout, validation, train, _ = map(np.sort, np.split(ids, np.cumsum(numbers)))
        return Split(train, validation, heldout)


def episode_limit(params: Any, name: str) -> int:
    """The steps of the longest episode of some tasks.

    Args:
      params: EnvParams of the tasks, with a leading axis.
      name: of the environment, for the error message.

    Raises:
      UserError: a task has no ``max_steps_in_episode`` of 1 or more.
    """
    limits = getattr(params, "max_steps_in_episode", None)
    if limits is None or not np.all(np.asarray(limits) >= 1):
        raise UserError(
            f"the tasks of {name} have no step limit: give their EnvParams a "
            "max_steps_in_episode of 1 or more"
        )
    return int(np.max(limits))


def _distinct_ids(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draws n distinct ids in the order drawn: a longer draw begins with the shorter one."""
    ids: dict[int, None] = {}
    while len(ids) < n:
        ids[int(rng.integers(MAX_TASK_ID))] = None
    return np.fromiter(ids, np.int32, n)
