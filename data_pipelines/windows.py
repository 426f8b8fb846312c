"""Cuts training windows out of histories.

A window is ``context`` consecutive steps of one stream, so it spans several episodes and shows
the source improving. If only some episodes are kept, these are joined before windows are cut. The
windows of a training step are a pure function of (seed, step): there is no iterator state to save,
and any number of processes draws the same windows. Device memory and disk give the same windows.

A *raw window* has one step more than ``context``, in front: the step before the window, which
gives the first token its previous action and reward. ``to_batch`` turns raw windows into the
model's inputs, inside jit.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax.numpy as jnp
import numpy as np

from ad_jax.errors import UserError
from data_pipelines.reader import Histories, Selection
from data_pipelines.schema import Schema

_STEPS = 2**20  # that are read together
RAW_FIELDS = ("observation", "action", "reward", "is_first")


@dataclasses.dataclass(frozen=True)
class WindowSampler:
    """Draws where windows begin, uniformly over all places where one fits.

    Attributes:
      lengths: kept steps of every row, int [rows].
      tasks: of every row, int [rows]: its task's index among the kept tasks, sorted by id.
      context: steps of a window.
      batch_size: windows per training step.
      seed: of all draws.
    """

    lengths: np.ndarray
    tasks: np.ndarray
    context: int
    batch_size: int
    seed: int
    _begins: np.ndarray = dataclasses.field(init=False, repr=False)
    _ends: np.ndarray = dataclasses.field(init=False, repr=False)
    _offsets: np.ndarray = dataclasses.field(init=False, repr=False)

    def __post_init__(self):
        if self.lengths.max(initial=0) < self.context:
            raise UserError(
                f"context={self.context} is longer than the histories, of which "
                f"{self.lengths.max(initial=0)} steps are kept: lower it, keep more of their "
                "episodes, or collect more"
            )
        places = np.maximum(self.lengths - self.context + 1, 0)
        object.__setattr__(self, "_ends", np.cumsum(places))
        object.__setattr__(self, "_begins", self._ends - places)
        object.__setattr__(self, "_offsets", np.cumsum(self.lengths) - self.lengths)

    def draw(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(row, start): int64 [batch_size] each, the windows of a training step."""
        philox = np.random.Philox(key=self.seed, counter=[0, 0, 0, step])
        place = np.random.Generator(philox).integers(self._ends[-1], size=self.batch_size)
        row = np.searchsorted(self._ends, place, side="right")
        return row, place - self._begins[row]

    def starts(self, step: int) -> dict[str, np.ndarray]:
        """Where windows begin, for ``DeviceWindows.cut``.

        Returns:
          Arrays [batch_size]: index, int32, the first step, counted over all kept steps;
          has_previous, bool, whether another step of the row precedes it; and task, int32, as in
          ``tasks``.
        """
        row, start = self.draw(step)
        return {
            "index": (self._offsets[row] + start).astype(np.int32),
            "has_previous": start > 0,
            "task": self.tasks[row],
        }


def make_sampler(
    histories: Histories, *, selection: Selection, context: int, batch_size: int, seed: int
) -> WindowSampler:
    """A sampler of windows from the selected part of a data set."""
    kept = histories.task if selection.tasks is None else list(selection.tasks)
    return WindowSampler(
        lengths=histories.kept_episodes(selection).lengths,
        tasks=np.searchsorted(np.unique(kept), histories.task).astype(np.int32),
        context=context,
        batch_size=batch_size,
        seed=seed,
    )


class DeviceWindows:
    """All kept steps in memory, one row after the other; windows are cut inside jit.

    Attributes:
      arrays: dict of RAW_FIELDS, each [steps, ...]; to be put on the devices.
    """

    def __init__(self, histories: Histories, sampler: WindowSampler, selection: Selection):
        self._context = sampler.context
        if sampler.lengths.sum() > np.iinfo(np.int32).max:
            raise UserError("the histories do not fit into device memory: set train.windows='disk'")
        kept, number = histories.kept_episodes(selection), int(sampler.lengths.sum())
        parts = [
            histories.read(*kept.place(np.arange(at, min(at + _STEPS, number))), RAW_FIELDS)
            for at in range(0, number, _STEPS)
        ]
        self.arrays = {k: np.concatenate([part[k] for part in parts]) for k in RAW_FIELDS}

    def cut(self, arrays: dict[str, Any], starts: dict[str, Any]) -> dict[str, Any]:
        """Cuts raw windows at ``WindowSampler.starts``, inside jit: [batch, context + 1, ...]."""
        index = starts["index"][:, None] + np.arange(-1, self._context)
        raw = {k: v[jnp.maximum(index, 0)] for k, v in arrays.items()}
        return {**raw, "has_previous": starts["has_previous"], "task": starts["task"]}


def make_reader(
    histories: Histories, sampler: WindowSampler, selection: Selection
) -> Callable[[int], dict[str, np.ndarray]]:
    """From a training step to its raw windows, read from disk."""
    kept = histories.kept_episodes(selection)
    first = np.cumsum(kept.lengths) - kept.lengths  # kept steps before each row

    def read_windows(step: int) -> dict[str, np.ndarray]:
        rows, starts = sampler.draw(step)
        index = starts[:, None] + np.arange(-1, sampler.context)
        index = np.maximum(index, 0)  # a row's first step has none before it: masked in to_batch
        row, steps = kept.place(first[rows][:, None] + index)
        raw = histories.read(row, steps, RAW_FIELDS)
        return {**raw, "has_previous": starts > 0, "task": sampler.tasks[rows]}

    return read_windows


def disk_windows(
    histories: Histories,
    sampler: WindowSampler,
    selection: Selection,
    first_step: int,
    prefetch: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Raw windows of the training steps from ``first_step`` on, read ahead in threads by Grain."""
    read_windows = make_reader(histories, sampler, selection)
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=prefetch)
    last = np.iinfo(np.int32).max
    steps = grain.MapDataset.range(first_step, last).map(read_windows)
    return iter(steps.to_iter_dataset(options))


def to_batch(schema: Schema, raw: dict[str, Any]) -> dict[str, Any]:
    """The model's inputs and targets from raw windows, inside jit.

    Returns:
      A dict of arrays [batch, context, ...]: observation, previous_action (``Actions.none`` where
      there was none), previous_reward, is_first, and the target, action; and task, int32
      [batch], as ``WindowSampler.tasks`` has it.
    """
    context = raw["action"].shape[1] - 1
    has_previous = raw["has_previous"][:, None] | (jnp.arange(context) > 0)
    actions, previous_action = schema.actions, raw["action"][:, :-1].astype(jnp.int32)
    acted = has_previous.reshape(*has_previous.shape, *(1 for _ in actions.shape))
    previous_reward = schema.decode_reward(raw["reward"][:, :-1])
    return {
        "observation": schema.decode_observation(raw["observation"][:, 1:]),
        "previous_action": jnp.where(acted, previous_action, actions.none),
        "previous_reward": jnp.where(has_previous, previous_reward, 0.0),
        "is_first": raw["is_first"][:, 1:],
        "action": raw["action"][:, 1:].astype(jnp.int32),
        "task": raw["task"],
    }
