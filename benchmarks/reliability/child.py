"""A run that reports its current phase.

    AD_JAX_MARKS=FD python -m benchmarks.reliability.child --config=… --workdir=…

Writes a line to the file descriptor FD at the beginning and end of each stage, and before and after
each call that saves a checkpoint. Otherwise it is ``experiments.run``.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

from ad_jax.checkpoint import Checkpoints
from experiments import run  # imports pipeline itself, once it has joined the other processes

MARKS = int(os.environ["AD_JAX_MARKS"])


def marked(phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with a line before and after it."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        os.write(MARKS, f"begin {phase}\n".encode())
        result = function(*args, **kwargs)
        os.write(MARKS, f"end {phase}\n".encode())
        return result

    return call


if __name__ == "__main__":
    for name, stage in run.pipeline.STAGES.items():
        run.pipeline.STAGES[name] = stage._replace(run=marked(name, stage.run))
    Checkpoints.save = marked("checkpoint", Checkpoints.save)
    run.entry_point()
