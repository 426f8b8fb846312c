"""Histories: random training windows from disk and from memory, and bytes on disk."""

import pathlib
import tempfile

import jax
import numpy as np

from ad_jax.envs import registry
from benchmarks.growth import shards
from benchmarks.timing import Candidate, compare
from data_pipelines.reader import Histories, Selection
from data_pipelines.schema import Schema
from data_pipelines.windows import RAW_FIELDS, DeviceWindows, make_reader, make_sampler

TASKS, STREAMS, STEPS, BLOCK = 64, 8, 4000, 400
WINDOW, BATCH = 300, 64
BATCHES = {"disk": 20, "memory": 200, "npy": 20}  # per round
NPY = {
    "peer": "NumPy", "fair": True, "version": f"NumPy {np.__version__}", "setting": {},
    "equal": "packed transitions, windows, files in the system's cache",
    "differs": "whole files mapped into memory: no checksums, no buckets, one machine",
}  # fmt: skip


def run(rounds: int) -> list[dict]:
    """Transitions per second in windows, then bytes of a transition on disk."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        steps = _write(folder / "histories", "DarkRoom")
        lines = _windows(folder, steps, rounds)
        for name in ("DarkRoom", "Watermaze"):
            if name != "DarkRoom":
                _write(folder / name, name)
            files = (folder / ("histories" if name == "DarkRoom" else name)).iterdir()
            size = sum(file.stat().st_size for file in files)
            lines.append(_size(f"ad_jax: {name}", size))
        # As NumPy stores them without being asked: observations and actions int64, rewards float64.
        np.savez(
            folder / "wide.npz", observation=np.zeros((*steps["action"].shape, 2), int),
            action=steps["action"].astype(int), reward=steps["reward"].astype(float),
            is_last=steps["is_last"],
        )  # fmt: skip
        size = (folder / "wide.npz").stat().st_size
        lines.append(_size("npz of int64, float64 and bool: Dark Room", size))
    return lines


def _write(folder: pathlib.Path, name: str) -> dict[str, np.ndarray]:
    """A data set of random steps; returns them encoded, [task, stream, step, ...]."""
    env, _ = registry.make(name)
    schema = Schema.of(env, BLOCK)
    steps = shards.random_steps(env, schema, (TASKS, STREAMS, STEPS))
    shards.store(folder, env, schema, steps)
    return steps


def _windows(folder: pathlib.Path, steps: dict[str, np.ndarray], rounds: int) -> list[dict]:
    histories, selection = Histories(folder / "histories"), Selection()
    sampler = make_sampler(histories, selection=selection, context=WINDOW, batch_size=BATCH, seed=0)
    read = make_reader(histories, sampler, selection)
    memory = DeviceWindows(histories, sampler, selection)
    arrays, cut = jax.device_put(memory.arrays), jax.jit(memory.cut)
    for k in RAW_FIELDS:
        np.save(folder / f"{k}.npy", steps[k].reshape(TASKS * STREAMS, *steps[k].shape[2:]))
    maps = {k: np.load(folder / f"{k}.npy", mmap_mode="r") for k in RAW_FIELDS}

    def from_npy(step: int) -> dict[str, np.ndarray]:
        places = list(zip(*sampler.draw(step), strict=True))
        return {k: np.stack([v[r, s : s + WINDOW] for r, s in places]) for k, v in maps.items()}

    in_memory = lambda step: jax.block_until_ready(cut(arrays, sampler.starts(step)))
    makers = {
        "ad_jax: from disk": (read, BATCHES["disk"], {}),
        "ad_jax: from device memory": (in_memory, BATCHES["memory"], {}),
        "npy files, mapped into memory": (from_npy, BATCHES["npy"], NPY),
    }
    candidates = {
        f"{name}, windows of {WINDOW}": Candidate(
            lambda make=make, n=n: [make(step) for step in range(n)], n * BATCH * WINDOW, facts
        )
        for name, (make, n, facts) in makers.items()
    }
    return compare("windows", "transitions", candidates, rounds)


def _size(what: str, size: int) -> dict:
    return {"stage": "size", "what": what, "bytes_per_transition": size / (TASKS * STREAMS * STEPS)}
