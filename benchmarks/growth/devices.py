"""What devices send each other in a training step, counted in the compiled program.

The devices are simulated: nothing is timed. The batch is the same for any number of them.
"""

import json
from collections.abc import Callable

import jax

from benchmarks import presets
from benchmarks.growth import child, fit

DEVICES = (1, 2, 4, 8)
MESHES = ("data", "fsdp", "model", "sequence")
WIDTH, HEADS = 64, 8


def run(rounds: int, devices: tuple[int, ...] = DEVICES) -> list[dict]:
    """MiB that each device sends in a step, by ``programs.collectives``; there are no rounds."""
    del rounds
    sent = {n: _in_a_process(n) for n in devices if n > 1}
    return [
        fit.row(fit.Line(
            "devices", f"sent in a training step, mesh.{axis}", "MiB", "devices",
            list(sent), [[of[axis] for of in sent.values()]], list(map(law, sent)), text,
        ))
        for axis, (law, text) in laws(configured()).items()
    ]  # fmt: skip


def laws(config) -> dict[str, tuple[Callable[[int], float], str]]:
    """For each axis of the mesh, what each of n devices must send, and that in words.

    In a ring, gathering an array, or scattering its sum, sends (n - 1) / n of it; an all-reduce
    does both. Along ``sequence`` a device holds 1 / n of all activations. It exchanges queries,
    keys, values and attention outputs in both passes, and parameters as along ``fsdp``.
    """
    _, init, _ = presets.training(config)
    params = jax.eval_shape(init, jax.random.key(0)).params
    parameters = sum(x.size for x in jax.tree.leaves(params))
    steps = config.train.batch_size * config.model.context
    attended = 8 * config.model.num_layers * steps * config.model.width
    share = lambda n: (n - 1) / n
    return {
        "data": (share, "(n - 1) / n: gradients"),
        "fsdp": (share, "(n - 1) / n: parameters, gradients"),
        "model": (share, "(n - 1) / n: activations of all windows"),
        "sequence": (
            lambda n: share(n) * (attended / n + 3 * parameters),
            "(n - 1) / n: an n-th of the activations; parameters, gradients",
        ),
    }


def _in_a_process(devices: int) -> dict[str, float]:
    return child.answer(
        "benchmarks.growth.devices", JAX_NUM_CPU_DEVICES=str(devices), JAX_PLATFORMS="cpu"
    )


def configured():
    """The preset whose step is compiled, with heads for many devices."""
    config = presets.load("dark_room:quickstart")
    config.train.accumulate = 1
    config.model.update({"width": WIDTH, "num_heads": HEADS, "num_layers": 2})
    return config


def sent(axis: str) -> float:
    """MiB that each device of this process sends in a step, along one axis of the mesh."""
    from ad_jax.distributed import sharding
    from benchmarks import tpu

    mesh = sharding.make_mesh(**{"data": 1, axis: jax.device_count()})
    found = tpu.costs(configured(), mesh)["collectives"]
    return sum(kind["sent_mib"] for kind in found.values())


if __name__ == "__main__":
    print(json.dumps({axis: sent(axis) for axis in MESHES}))
