"""Compiles the training step of a preset for TPUs on a machine that has none, and prints its costs.

    python -m benchmarks.tpu [--preset=dark_key_to_door:large] [--topology=v5e:4x4] \
        [--fsdp=1] [--model=1] [--sequence=1] [--output=FILE]

Memory, collectives and an approximate lower bound on the step time are given for one chip. Needs
the extra "tpu", but no TPU. Takes minutes.
"""

import argparse
import json
import os
import pathlib
import sys
import time
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The compiler must not query the metadata server, which only TPU machines have.
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")

import jax
from jax.experimental import topologies

from ad_jax import build
from ad_jax.distributed import sharding
from benchmarks import presets, programs


class Chip(NamedTuple):
    """The vendor's specification of one chip.

    Attributes:
      hbm_gib: memory.
      flop_per_second: of bfloat16 matrix products.
      hbm_bytes_per_second: to and from its memory.
      sent_bytes_per_second: to other chips, over all its links.
    """

    hbm_gib: float
    flop_per_second: float
    hbm_bytes_per_second: float
    sent_bytes_per_second: float


# https://cloud.google.com/tpu/docs/v5e and .../v5p; links are stated there for both directions.
CHIPS = {
    "v5e": Chip(16, 197e12, 819e9, 400e9 / 2),
    "v5p": Chip(95, 459e12, 2765e9, 1200e9 / 2),
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tpu")
    parser.add_argument("--preset", default="dark_key_to_door:large", help="ENVIRONMENT:PRESET")
    parser.add_argument("--topology", default="v5e:4x4", help="what to compile for: CHIP:SLICE")
    for axis in (sharding.FSDP, sharding.MODEL, sharding.SEQUENCE):
        parser.add_argument(f"--{axis}", type=int, default=1, help=f"mesh.{axis}; data is the rest")
    parser.add_argument("--output", default="runs/tpu.json", help="file for the result")
    options = parser.parse_args(arguments)
    chip = options.topology.split(":")[0]
    if chip not in CHIPS:
        parser.error(f"--topology={options.topology}: the chip must be one of {', '.join(CHIPS)}")
    devices = topologies.get_topology_desc(platform="tpu", topology_name=options.topology).devices
    sizes = {axis: getattr(options, axis) for axis in sharding.AXES[1:]}
    mesh = sharding.make_mesh(**sizes, devices=devices)
    config = presets.load(options.preset)
    found = costs(config, mesh)
    result = {
        "preset": options.preset,
        "topology": options.topology,
        "mesh": dict(mesh.shape),
        "jax": jax.__version__,
        **found,
        "roofline": roofline(found, CHIPS[chip], mesh.size),
    }
    path = pathlib.Path(options.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def costs(config, mesh) -> dict:
    """What the compiled training step of a config needs on each device of a mesh.

    Args:
      config: of an experiment.
      mesh: from ``sharding.make_mesh``; its devices may be of a topology.

    Returns:
      the number of parameters and the transitions of a step; seconds of compilation; GiB of memory
      and its largest array; TFLOP of the whole step, needed and with what ``model.remat`` computes
      again; GiB that a device moves to and from its memory, about; how many "kernels" of Pallas the
      program calls; and its ``programs.collectives``.
    """
    model, init, update = presets.training(config)
    state = jax.eval_shape(init, jax.random.key(0))
    shardings = sharding.state_shardings(mesh, state, build.sharding_rules(config))
    replicated, spread = sharding.replicated(mesh), sharding.batch_sharding(mesh)
    abstract = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    params = state.params
    state = jax.tree.map(abstract, state, shardings)
    batch = presets.batch_shapes(config, model, spread)
    key = abstract(jax.eval_shape(lambda: jax.random.key(0)), replicated)
    step = jax.jit(
        sharding.on_mesh(mesh, update), donate_argnums=0, out_shardings=(shardings, replicated)
    )
    lowered = step.lower(state, batch, key)
    began = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - began
    memory, program = compiled.memory_analysis(), compiled.as_text()
    gib = lambda size: round(size / 2**30, 3)
    transitions = config.train.batch_size * config.model.context
    tflop = presets.flops(config, params) * transitions / 1e12
    shape, size = programs.largest(program)
    return {
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "transitions": transitions,
        "compile_seconds": round(seconds, 1),
        "memory_gib": {
            "state_and_batch": gib(memory.argument_size_in_bytes),
            "temporaries": gib(memory.temp_size_in_bytes),
            "program": gib(memory.generated_code_size_in_bytes),
        },
        "largest_buffer": shape,
        "largest_buffer_mib": round(size, 3),
        "tflop": {
            "needed": round(tflop, 3),
            # A layer's forward pass is a third of its work.
            "computed": round(tflop * (4 / 3 if config.model.remat else 1), 3),
        },
        "moved_gib": gib(programs.bytes_moved(program)),
        "kernels": program.count("tpu_custom_call"),
        "collectives": programs.collectives(program),
    }


def roofline(found: dict, chip: Chip, chips: int) -> dict[str, float]:
    """A lower bound on the time of a step; only approximate where memory traffic decides.

    Args:
      found: the result of ``costs``.
      chip: the specification of one chip.
      chips: number of chips.

    Returns:
      "of_gib", the chip's memory; "compute_ms", "memory_ms" and "sending_ms", the milliseconds to
      compute, to move bytes to and from memory, and to send bytes to other chips, which overlap at
      best; "step_ms", the longest of the three; and "utilisation", the fraction of the chip's
      FLOP/s that the needed FLOPs are in that time.
    """
    sent = sum(kind["sent_mib"] for kind in found["collectives"].values()) * 2**20
    milliseconds = {
        "compute_ms": found["tflop"]["computed"] * 1e12 / chips / chip.flop_per_second * 1e3,
        "memory_ms": found["moved_gib"] * 2**30 / chip.hbm_bytes_per_second * 1e3,
        "sending_ms": sent / chip.sent_bytes_per_second * 1e3,
    }
    step = max(milliseconds.values())
    needed = found["tflop"]["needed"] * 1e12 / chips / chip.flop_per_second * 1e3
    return {
        "of_gib": chip.hbm_gib,
        **{name: round(value, 3) for name, value in milliseconds.items()},
        "step_ms": round(step, 3),
        "utilisation": round(needed / step, 3),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
