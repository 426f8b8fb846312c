"""Other libraries ("peers") in separate processes, which share neither packages nor threads.

Each module here is the program of such a process. It runs the peer as fast as we know how: before
it is ready, it tries several settings, and keeps the fastest.
"""

import contextlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.timing import interleave

Setting = dict[str, Any]
Ask = Callable[[str], str]

BATCH = 64  # windows
SHAPE = dict(width=64, num_layers=4, num_heads=4, mlp_width=256)


def random_batch(context: int) -> dict[str, np.ndarray]:
    """Windows of Dark Room, [BATCH, context, ...]."""
    rng = np.random.default_rng(0)
    return {
        "observation": rng.integers(0, 9, (BATCH, context, 2)).astype(np.int32),
        "previous_action": rng.integers(0, 6, (BATCH, context)).astype(np.int32),
        "previous_reward": rng.random((BATCH, context)).astype(np.float32),
        "is_first": rng.random((BATCH, context)) < 0.05,
        "action": rng.integers(0, 5, (BATCH, context)).astype(np.int32),
    }


@contextlib.contextmanager
def start(module: str, *arguments, python: str = sys.executable) -> Iterator[Ask]:
    """Starts a module that calls ``serve`` in a process, which ends with this context.

    Args:
      module: its name.
      *arguments: of its command line.
      python: the interpreter.

    Yields:
      A function from a question to its answer; raises RuntimeError if the process has ended.
    """
    command = [python, "-m", module, *map(str, arguments)]
    # Its standard input is closed at the end, which ends ``serve``; then it is waited for.
    with subprocess.Popen(
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:

        def answer() -> str:
            if not (line := process.stdout.readline()):
                raise RuntimeError(f"{module} {arguments} has ended")
            return line.strip()

        def ask(question: str) -> str:
            process.stdin.write(f"{question}\n")
            process.stdin.flush()
            return answer()

        answer()  # it is ready
        yield ask


def facts(*asks: Ask, form: str = "work") -> dict[str, Any]:
    """The version of a peer, and its settings for one form of its work.

    Several processes of a peer choose their settings independently. Where they differ, those of all
    processes are given, in order.
    """
    known = [json.loads(ask("facts")) for ask in asks]
    settings = [one["settings"][form] for one in known]
    told = {
        name: value if all(one[name] == value for one in settings)
        else " | ".join(str(one[name]) for one in settings)
        for name, value in settings[0].items()
    }  # fmt: skip
    return {"version": known[0]["version"], "setting": told}


def serve(
    version: str,
    works: dict[str, tuple[Setting, Callable[[], object]]],
    answers: dict[str, Callable[[], object]] | None = None,
) -> None:
    """Answers questions from the standard input until it ends.

    Args:
      version: of the peer, with its name.
      works: for each question that asks for work, the setting and the function that does the work.
      answers: functions that answer other questions.
    """
    known = json.dumps({"version": version, "settings": {k: s for k, (s, _) in works.items()}})
    does = {name: work for name, (_, work) in works.items()}
    everything = {**does, **(answers or {}), "facts": lambda: known}
    print("ready", flush=True)
    for line in sys.stdin:
        print(everything[line.strip()](), flush=True)


def tuned(
    make: Callable[..., Callable[[], object]], grid: Sequence[Setting], best: int = 1
) -> list[tuple[Setting, Callable[[], object]]]:
    """Does the work of each setting three times; keeps the fastest, by its best time.

    Args:
      make: from a setting to its work.
      grid: the settings.
      best: how many are kept.

    Returns:
      (setting, work) of each, the fastest first.
    """
    works = [make(**setting) for setting in grid]
    # The first of three, which may compile, does not count.
    seconds = interleave({str(i): work for i, work in enumerate(works)}, rounds=2)
    order = sorted(range(len(grid)), key=lambda i: seconds[str(i)].min())
    return [(grid[i], works[i]) for i in order[:best]]


def missing(peer: str, module: str) -> dict[str, str]:
    """Why a peer of the extra "bench" is left out, if it is."""
    installed = importlib.util.find_spec(module)
    return {} if installed else {peer: "not installed: pip install -e '.[bench]'"}


def left_out(stage: str, reasons: dict[str, str]) -> list[dict[str, str]]:
    """Rows of peers that were not run, and why."""
    return [{"stage": stage, "what": peer, "left_out": why} for peer, why in reasons.items()]
