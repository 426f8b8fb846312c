"""Compiles the training step of a preset for TPUs on a machine that has none, and prints its costs.

    python -m benchmarks.tpu [--preset=dark_key_to_door:large] [--topology=v5e:4x4] \
        [--fsdp=1] [--model=1] [--output=FILE]

Memory and collectives are those of one chip. Needs the extra "tpu", and no TPU; minutes.
"""

import argparse
import json
import os
import pathlib
import re
import sys
import time
from collections import Counter

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# What the compiler would ask a TPU machine for.
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType

from ad_jax import build
from ad_jax.distributed import sharding
from benchmarks import presets

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tpu")
    parser.add_argument("--preset", default="dark_key_to_door:large", help="ENVIRONMENT:PRESET")
    parser.add_argument("--topology", default="v5e:4x4", help="what to compile for")
    parser.add_argument("--fsdp", type=int, default=1, help="mesh.fsdp; mesh.data is the rest")
    parser.add_argument("--model", type=int, default=1, help="mesh.model")
    parser.add_argument("--output", default="runs/tpu.json", help="where the result goes")
    options = parser.parse_args(arguments)
    devices = topologies.get_topology_desc(platform="tpu", topology_name=options.topology).devices
    shape = (-1, options.fsdp, options.model)
    mesh = jax.sharding.Mesh(
        np.array(devices).reshape(shape), sharding.AXES, axis_types=(AxisType.Auto,) * 3
    )
    config = presets.load(options.preset)
    result = {
        "preset": options.preset,
        "topology": options.topology,
        "mesh": dict(mesh.shape),
        "jax": jax.__version__,
        **costs(config, mesh),
    }
    path = pathlib.Path(options.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def costs(config, mesh) -> dict:
    """What the compiled training step of a config takes of each device of a mesh.

    Args:
      config: of an experiment.
      mesh: with the axes ``sharding.AXES``; its devices may be of a topology.

    Returns:
      Seconds of compilation, GiB of memory, FLOPs, and for each kind of collective how many there
      are in the program and the bytes of their results.
    """
    model, init, update = presets.training(config)
    state = jax.eval_shape(init, jax.random.key(0))
    shardings = sharding.state_shardings(mesh, state, build.sharding_rules(config))
    replicated, spread = sharding.replicated(mesh), sharding.batch_sharding(mesh)
    abstract = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    state = jax.tree.map(abstract, state, shardings)
    batch = presets.batch_shapes(config, model, spread)
    key = abstract(jax.eval_shape(lambda: jax.random.key(0)), replicated)
    step = jax.jit(
        sharding.on_mesh(mesh, update), donate_argnums=0, out_shardings=(shardings, replicated)
    )
    lowered = step.lower(state, batch, key)
    began = time.perf_counter()
    compiled = lowered.compile()
    memory, program = compiled.memory_analysis(), compiled.as_text()
    gib = lambda size: round(size / 2**30, 3)
    return {
        "compile_seconds": round(time.perf_counter() - began, 1),
        "memory_gib": {
            "state_and_batch": gib(memory.argument_size_in_bytes),
            "temporaries": gib(memory.temp_size_in_bytes),
            "program": gib(memory.generated_code_size_in_bytes),
        },
        "tflop": round(compiled.cost_analysis().get("flops", 0.0) / 1e12, 3),
        "kernels": program.count("tpu_custom_call"),
        "collectives": collectives(program),
    }


def collectives(program: str) -> dict[str, dict[str, float]]:
    """How many collectives of each kind a compiled program has, and the MiB of their results."""
    number, size = Counter(), Counter()
    pattern = rf"= (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\("
    for result, kind in re.findall(pattern, program):
        number[kind] += 1
        for dtype, dims in re.findall(r"(\w+)\[([\d,]*)\]", result):
            count = np.prod([int(d) for d in dims.split(",") if d])
            size[kind] += int(count * _SIZES.get(dtype, 4))
    return {kind: {"number": number[kind], "mib": round(size[kind] / 2**20, 3)} for kind in number}


if __name__ == "__main__":
    main(sys.argv[1:])
