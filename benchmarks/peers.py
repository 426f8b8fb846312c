"""Peers in processes of their own, where they share neither packages nor threads with ours."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np

BATCH, STEPS = 64, 5  # windows, and steps of training per round
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


def start(module: str, *arguments, python: str = sys.executable) -> Callable[[str], str]:
    """Starts a module that ``serve`` is called in; returns a function that asks it.

    Args:
      module: its name.
      *arguments: of its command line.
      python: the interpreter.

    Returns:
      From a question to its answer, which raises RuntimeError when the process has ended.
    """
    process = subprocess.Popen(
        [python, "-m", module, *map(str, arguments)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip

    def answer() -> str:
        if not (line := process.stdout.readline()):
            raise RuntimeError(f"{module} {arguments} has ended")
        return line.strip()

    def ask(question: str) -> str:
        process.stdin.write(f"{question}\n")
        process.stdin.flush()
        return answer()

    answer()  # it is ready
    return ask


def serve(answers: dict[str, Callable[[], object]]) -> None:
    """Answers questions from the standard input until it ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        print(answers[line.strip()](), flush=True)
