"""The curves of training: metrics.jsonl and TensorBoard."""

import contextlib
import json
import shutil
import time
from typing import Any

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from data_pipelines.files import growing, write_text_atomically
from experiments.runtime.workdir import Workdir


class Metrics:
    """Writes metrics to metrics.jsonl and to TensorBoard, each step once, also after a restart.

    A line is of a step and a training seed; where there are several seeds, each has a folder below
    tensorboard/. ``publish`` brings what was written to a workdir in a store.

    Both are written here and now: TensorBoard's usual writer has a thread, and waits for it for
    ever once a full disk has ended it.
    """

    def __init__(self, workdir: Workdir, seeds: list[int], first_step: int):
        self._growing = contextlib.ExitStack()
        folder, self.publish = self._growing.enter_context(growing(workdir.path))
        path, found = folder / "metrics.jsonl", workdir.path / "metrics.jsonl"
        if found.exists():
            lines = [_parse(line) for line in found.read_text().splitlines()]
            kept = [m for m in lines if m and m["step"] <= first_step]
            write_text_atomically(path, "".join(json.dumps(m) + "\n" for m in kept))
        self._file = open(path, "a")
        self._boards = {}
        for seed in seeds:
            board = folder / "tensorboard" / ("" if len(seeds) == 1 else f"seed_{seed}")
            board.mkdir(parents=True, exist_ok=True)
            self._boards[seed] = EventsWriter(str(board / "events"))
            # TensorBoard hides what an earlier process wrote of later steps.
            started = SessionLog(status=SessionLog.START)
            self._boards[seed].write_event(Event(step=first_step + 1, session_log=started))

    def write(self, step: int, of_seeds: dict[str, np.ndarray], of_all: dict[str, float]) -> None:
        """Adds a line of each seed: values [seed], and those that all share."""
        for i, (seed, board) in enumerate(self._boards.items()):
            metrics = {**{name: float(values[i]) for name, values in of_seeds.items()}, **of_all}
            self._file.write(json.dumps({"step": step, "seed": seed, **metrics}) + "\n")
            for name, value in metrics.items():
                summary = scalar(f"train/{name}", value)
                board.write_event(Event(wall_time=time.time(), step=step, summary=summary))
            board.flush()
        self._file.flush()

    def close(self) -> None:
        """Finishes all files."""
        with self._growing:
            self._file.close()
            for board in self._boards.values():
                board.close()


def write_returns(workdir: Workdir, returns: dict[str, np.ndarray]) -> None:
    """Puts curves by in-context episode into TensorBoard, as a run of their own.

    Args:
      workdir: whose TensorBoard.
      returns: of groups of tasks, float [episode], by name.
    """
    with growing(workdir.path) as (folder, _):
        board = folder / "tensorboard" / "in_context"
        shutil.rmtree(board, ignore_errors=True)  # of another evaluation
        board.mkdir(parents=True)
        writer = EventsWriter(str(board / "events"))
        for group, curve in returns.items():
            for episode, value in enumerate(curve, 1):
                summary = scalar(f"in_context/{group}_return", float(value))
                writer.write_event(Event(wall_time=time.time(), step=episode, summary=summary))
        writer.close()


class Means:
    """The means of metrics over the steps since the last row, each [seed].

    A checkpoint keeps the sums so far, so a row is the same whether training was interrupted
    within it or not.

    Args:
      stored: from ``stored`` of an earlier process; nothing without one.
    """

    def __init__(self, stored: dict[str, Any] | None = None):
        stored = stored or {"steps": 0, "sums": {}}
        self._steps = stored["steps"]
        self._sums = {name: np.array(values) for name, values in stored["sums"].items()}

    def add(self, metrics: dict[str, np.ndarray]) -> None:
        """Takes the metrics of one more step."""
        self._steps += 1
        for name, values in metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + np.asarray(values, np.float64)

    def take(self) -> dict[str, np.ndarray]:
        """The means; the next row begins."""
        means = {name: values / self._steps for name, values in self._sums.items()}
        self._steps, self._sums = 0, {}
        return means

    def stored(self) -> dict[str, Any]:
        """The sums as JSON values."""
        sums = {name: values.tolist() for name, values in self._sums.items()}
        return {"steps": self._steps, "sums": sums}


def _parse(line: str) -> dict[str, Any] | None:
    """A line of metrics.jsonl; None for one that was cut off."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
