"""From the command to the first training step, the second time: programs are in JAX's cache."""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

CONFIG = "experiments/configs/dark_room.py:quickstart"


def run(rounds: int) -> list[dict]:
    """Seconds until the metrics of the first step are written, median of some rounds."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        environment = {
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "PYTHONPATH": os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", ""))),
        }
        # Hides PyTorch, a peer: libraries import it if it is there, and users need not have it.
        (folder / "torch.py").write_text("raise ImportError")
        workdir = folder / "run"
        options = [f"--config={CONFIG}", f"--workdir={workdir}", "--config.train.log_every=1"]
        command = [sys.executable, "-m", "experiments.run", *options]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
        subprocess.run([*command, "--stages=collect"], check=True, **quiet)
        seconds = [_until_first_step(command, workdir, quiet) for _ in range(1 + rounds // 3)]
    middle = sorted(seconds[1:])[len(seconds[1:]) // 2]
    what = f"{CONFIG}: seconds to the first training step"
    return [{"stage": "start", "what": what, "first": seconds[0], "again": middle}]


def _until_first_step(command: list[str], workdir: pathlib.Path, options: dict) -> float:
    metrics = workdir / "metrics.jsonl"
    metrics.unlink(missing_ok=True)
    began = time.perf_counter()
    with subprocess.Popen([*command, "--stages=train"], **options) as process:
        while not (metrics.exists() and metrics.stat().st_size):
            if process.poll() is not None:
                raise RuntimeError("the run has ended before its first step")
            time.sleep(0.02)
        seconds = time.perf_counter() - began
        process.kill()
    return seconds
