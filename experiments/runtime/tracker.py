"""Sends curves to Weights & Biases or trackio, from a separate process.

A tracker uses the network, starts threads, prints, and may ask for a password. In a separate
process, which reads what training writes to metrics.jsonl, it may be slow or fail: training neither
waits for it nor fails with it. That process runs this file, so this file only imports Python's
standard library and the tracker.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

FINISH_SECONDS = 30  # that the process has at the end, to send what is left
PROJECT = "ad_jax"


def _wandb(run: dict[str, Any]) -> tuple[Any, str]:
    import wandb

    usual = {"PROJECT": PROJECT, "NAME": run["name"], "RUN_GROUP": run["group"], "SILENT": "true"}
    for name, value in usual.items():
        os.environ.setdefault(f"WANDB_{name}", value)
    opened = wandb.init(
        id=run["id"],
        config=run["config"],
        resume="allow",
        allow_val_change=True,  # of a setting that results don't depend on
        settings=wandb.Settings(x_stats_pid=os.getppid()),
    )
    folder = os.path.dirname(opened.dir)
    return opened, f"wandb sync {folder}" if opened.offline else opened.url


def _trackio(run: dict[str, Any]) -> tuple[Any, str]:
    import trackio

    opened = trackio.init(
        PROJECT,
        name=f"{run['name']}-{run['id']}",  # by which it is found again
        group=run["group"],
        config=run["config"],
        resume="allow",
    )
    return opened, f"trackio show --project {PROJECT}"


# Each opens a run, and returns it with where to view it. The names are also those of the packages
# and of the extras that install them.
TRACKERS: dict[str, Callable[[dict[str, Any]], tuple[Any, str]]] = {
    "wandb": _wandb,
    "trackio": _trackio,
}


@contextlib.contextmanager
def tracked(tracker: str, **run: Any) -> Iterator[None]:
    """Sends rows to a tracker while it is open; at the end waits ``FINISH_SECONDS`` at most.

    Any failure is reported in one line on stderr.

    Args:
      tracker: one of ``TRACKERS``.
      run: JSON values: the run's id, name, group and config; and what to send. This is either
        ``rows``, a list of (step, values by name), or ``metrics``: a file like metrics.jsonl that
        still grows, the number of seeds in it, and the last step that was already sent. If there is
        ``sent``, a file name, a line is added to it for each step.
    """
    arguments = [sys.executable, "-P", __file__]
    try:
        process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        _say(f"warning: {tracker} can't be started ({error})")
        yield
        return
    with contextlib.suppress(OSError):  # it has ended: its status says so
        process.stdin.write(json.dumps({"tracker": tracker, **run}).encode() + b"\n")
        process.stdin.flush()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            if status := process.wait(FINISH_SECONDS):
                _say(f"warning: {tracker} ended with status {status}")
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            _say(f"warning: {tracker} did not finish within {FINISH_SECONDS} s, and was stopped")


def _say(line: str) -> None:
    print(f"\n{line}", file=sys.stderr, flush=True)  # there may be a bar on this line


def _followed(path: str, seeds: int, after: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Yields (step, row) from a file that grows until stdin ends: means over seeds, and by seed."""
    for lines in zip(*[_lines(path)] * seeds, strict=False):  # those of a step follow each other
        step = lines[0]["step"]
        if step <= after:
            continue
        row = {}
        for name in lines[0].keys() - {"step", "seed"}:
            row[f"train/{name}"] = sum(line[name] for line in lines) / seeds
            if seeds > 1:
                row |= {f"seed_{line['seed']}/{name}": line[name] for line in lines}
        yield step, row


def _lines(path: str) -> Iterator[dict[str, Any]]:
    ended, line = False, ""
    with open(path) as file:
        while not ended:
            ended = bool(select.select([sys.stdin], [], [], 1.0)[0])  # before the last look
            for part in file:
                line += part
                if line.endswith("\n"):
                    yield json.loads(line)
                    line = ""


def _end_with_the_parent() -> None:
    """Ends this process after stdin ends, in case its parent was killed and can't end it."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    time.sleep(FINISH_SECONDS + 5)
    os._exit(1)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # the end of stdin is what ends this process
        signal.signal(number, signal.SIG_IGN)
    run = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    tracker = run["tracker"]
    try:
        opened, where = TRACKERS[tracker](run)
        _say(f"{tracker}: {where}")
        rows = run["rows"] if "rows" in run else _followed(*run["metrics"])
        with open(run.get("sent", os.devnull), "a") as sent:
            for step, row in rows:
                opened.log(row, step)
                line = {"tracker": tracker, "id": run["id"], "step": step}
                sent.write(json.dumps(line) + "\n")
                sent.flush()
        opened.finish()
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        _say(
            f"warning: {tracker} failed ({said}): all metrics are in metrics.jsonl and TensorBoard"
        )


if __name__ == "__main__":
    main()
