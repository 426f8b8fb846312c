"""The curves of training: metrics.jsonl, TensorBoard, and a tracker if one is asked for."""

import contextlib
import json
import secrets
import shutil
import time
from typing import Any

import ml_collections
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from ad_jax.paths import Path
from data_pipelines.files import growing, write_text_atomically
from experiments.runtime.tracker import tracked
from experiments.runtime.workdir import Workdir

_SENT = "tracker.jsonl"


class Metrics:
    """Writes metrics to metrics.jsonl and to TensorBoard, each step once, even after a restart.

    Each line is for one step and one training seed. With several seeds, each has a folder below
    tensorboard/. If the workdir is in a store, ``publish`` copies the files there.

    Both are written synchronously: TensorBoard's own writer uses a thread, and waits for it forever
    once a full disk has ended it. A tracker reads metrics.jsonl, and also gets each step once:
    tracker.jsonl records the steps that were sent.
    """

    def __init__(
        self, config: ml_collections.ConfigDict, workdir: Workdir, seeds: list[int], first_step: int
    ):
        self._growing = contextlib.ExitStack()
        folder, self.publish = self._growing.enter_context(growing(workdir.path))
        path = folder / "metrics.jsonl"
        kept = [m for m in _read(workdir.path / path.name) if m["step"] <= first_step]
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
        if config.tracker:
            sent = _read(workdir.path / _SENT) if first_step else []  # obsolete if it starts anew
            run = _run(config, workdir, workdir.path.name)
            if config.tracker not in {line["tracker"] for line in sent}:
                sent.append({"tracker": config.tracker, "id": run["id"], "step": 0})
            write_text_atomically(folder / _SENT, "".join(json.dumps(m) + "\n" for m in sent))
            last = [line for line in sent if line["tracker"] == config.tracker][-1]
            run |= {"id": last["id"], "metrics": (str(path), len(seeds), last["step"])}
            self._growing.enter_context(tracked(config.tracker, **run, sent=str(folder / _SENT)))

    def write(self, step: int, of_seeds: dict[str, np.ndarray], of_all: dict[str, float]) -> None:
        """Adds a line for each seed: its values from ``of_seeds`` [seed], and all of ``of_all``."""
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


def write_returns(
    config: ml_collections.ConfigDict, workdir: Workdir, returns: dict[str, np.ndarray]
) -> None:
    """Puts curves by in-context episode into TensorBoard and the tracker, as a run of their own.

    Args:
      config: of the run.
      workdir: whose TensorBoard.
      returns: of groups of tasks, float [episode], by name.
    """
    with growing(workdir.path) as (folder, _):
        board = folder / "tensorboard" / "in_context"
        shutil.rmtree(board, ignore_errors=True)  # of another evaluation
        board.mkdir(parents=True)
        writer = EventsWriter(str(board / "events"))
        curves = {f"in_context/{group}_return": curve.tolist() for group, curve in returns.items()}
        for name, curve in curves.items():
            for episode, value in enumerate(curve, 1):
                summary = scalar(name, value)
                writer.write_event(Event(wall_time=time.time(), step=episode, summary=summary))
        writer.close()
    if config.tracker:
        of_episode = zip(*curves.values(), strict=True)
        rows = [(e, dict(zip(curves, row, strict=True))) for e, row in enumerate(of_episode, 1)]
        run = _run(config, workdir, f"{workdir.path.name} in context")
        with tracked(config.tracker, **run, rows=rows):
            pass


class Means:
    """The means of metrics over the steps since the last row, each [seed].

    Checkpoints keep the sums so far, so an interruption of training does not change a row.

    Args:
      stored: what ``stored`` returned in an earlier process; None if there was none.
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


def _run(config: ml_collections.ConfigDict, workdir: Workdir, name: str) -> dict[str, Any]:
    """A run of a tracker; those of a workdir are a group."""
    group = workdir.path.name
    return {"id": secrets.token_hex(4), "name": name, "group": group, "config": config.to_dict()}


def _read(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a file of JSON values; none if there is no file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [parsed for line in lines if (parsed := _parse(line))]


def _parse(line: str) -> dict[str, Any] | None:
    """A line of metrics.jsonl; None for one that was cut off."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
