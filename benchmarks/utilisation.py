"""Training at the sizes of whole presets: the fraction of the machine's matrix-product speed.

Model FLOPs, ``presets.flops``, are divided by what one large matrix product of the same dtype does
in the same run.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import presets
from benchmarks.timing import interleave, table

PRESETS = {
    "cpu": ("dark_room:quickstart",),
    "gpu": ("dark_room:quickstart", "dark_room:paper", "dark_key_to_door:large"),
}
SIZE = {"cpu": 2048, "gpu": 8192}  # of the large matrices
SECONDS = 2.0  # of work in a round


def run(rounds: int, presets: tuple[str, ...] = ()) -> list[dict]:
    """Transitions per second, and the share of the measured matrix products."""
    platform = jax.default_backend()
    size, lines = SIZE[platform], []
    for preset in presets or PRESETS[platform]:
        step, config, flops = _training(preset)
        dtype = jnp.dtype(config.model.dtype)
        product = _product(size, dtype)
        candidates = {"step": _repeated(step), "product": _repeated(product)}
        seconds = interleave({name: work for name, (work, _) in candidates.items()}, rounds)
        times = {name: times for name, (_, times) in candidates.items()}
        what = f"{preset}, {dtype}, {config.train.batch_size} windows of {config.model.context}"
        transitions = config.train.batch_size * config.model.context * times["step"]
        amounts = {what: transitions}
        (line,) = table("model", "transitions", {what: seconds["step"]}, amounts)
        peak = 2 * size**3 * times["product"] / seconds["product"]
        share = np.percentile(transitions * flops / seconds["step"] / peak, [0, 50, 100])
        line["model_tflop_per_second"] = line["per_second"] * flops / 1e12
        line["matmul_tflop_per_second"] = float(np.median(peak)) / 1e12
        line["share"] = dict(zip(("low", "median", "high"), share.tolist(), strict=True))
        line["peak_memory_gib"] = _memory()
        lines.append(line)
    return lines


def _training(preset: str):
    """(one training step, the config, model FLOPs of a transition)."""
    config = presets.load(preset)
    model, init, update = presets.training(config)
    batch = {k: np.zeros(x.shape, x.dtype) for k, x in presets.batch_shapes(config, model).items()}
    step = presets.repeated(init, update, batch)
    params = jax.eval_shape(init, jax.random.key(0)).params
    return step, config, presets.flops(config, params)


def _product(size: int, dtype):
    a = jnp.ones((size, size), dtype)
    multiply = jax.jit(lambda a, b: a @ b)
    return lambda: multiply(a, a)


def _repeated(work):
    """(work repeated for about ``SECONDS``, how often)."""
    jax.block_until_ready([work() for _ in range(2)])
    began = time.perf_counter()
    jax.block_until_ready(work())
    times = max(1, min(200, round(SECONDS / (time.perf_counter() - began))))

    def repeated():
        for _ in range(times):
            result = work()
        jax.block_until_ready(result)

    return repeated, times


def _memory() -> float | None:
    """Peak memory of a device so far, in GiB; None if the device does not report it."""
    statistics = jax.devices()[0].memory_stats() or {}
    used = statistics.get("peak_bytes_in_use")
    return None if used is None else used / 2**30
