"""What devices send each other in a training step, counted in the compiled program.

The devices are simulated: nothing is timed. The batch is the same for any number of them.
"""

import json

import jax

from benchmarks import presets
from benchmarks.growth import child, fit

DEVICES = (1, 2, 4, 8)
MESHES = ("data", "fsdp", "model")
WIDTH, HEADS = 64, 8


def run(rounds: int, devices: tuple[int, ...] = DEVICES) -> list[dict]:
    """MiB of the results of all collectives, of one device and step; there are no rounds."""
    del rounds
    sent = {n: _in_a_process(n) for n in devices if n > 1}
    return [
        fit.row(fit.Line(
            "devices", f"sent in a training step, mesh.{axis}", "MiB", "devices",
            list(sent), [[of[axis] for of in sent.values()]], [1] * len(sent),
            "gradients, parameters" if axis != "model" else "activations of the same windows",
        ))
        for axis in MESHES
    ]  # fmt: skip


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
    """MiB of a step that all devices of this process share along one axis of the mesh."""
    from ad_jax.distributed import sharding
    from benchmarks import tpu

    mesh = sharding.make_mesh(**{"data": 1, axis: jax.device_count()})
    found = tpu.costs(configured(), mesh)["collectives"]
    return sum(kind["mib"] for kind in found.values())


if __name__ == "__main__":
    print(json.dumps({axis: sent(axis) for axis in MESHES}))
