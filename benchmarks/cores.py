"""Cores by the length of the context: how fast they train and act, and how much memory it takes.

Models are those of the arena in Dark Key-to-Door. A recurrent core's memory of what it has seen is
as large after ten thousand steps as after one; the transformer's grows with the context.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from ad_jax import build
from ad_jax.distributed import sharding
from ad_jax.evaluation.agents import model_agent
from ad_jax.methods.train_state import init_params
from ad_jax.models import CORES
from benchmarks import presets
from benchmarks.timing import Candidate, compare
from experiments.arena.entries import ENTRIES
from experiments.figures.presets import KEY_TO_DOOR
from experiments.figures.runs import changed
from experiments.stages.evaluate import make_evaluator

TRANSITIONS = 20_000  # in a batch, about, whatever the context
AGENTS, STEPS = 32, 50  # side by side, and how far they go in a round


def run(rounds: int, contexts: tuple[int, ...] = (200, 1000, 10_000)) -> list[dict[str, Any]]:
    """Transitions trained on, and steps acted, per second, with the bytes that it takes.

    ``memory_bytes`` is the size of the temporaries of a training step compiled for one device, or
    of the state of one acting agent.
    """
    rows = []
    for context in contexts:
        trained: dict[str, Candidate] = {}
        acting: dict[str, Candidate] = {}
        for core, config in configs(context):
            trained[f"training, {core}, context {context:,}"] = _training(core, config)
            acting[f"acting, {core}, context {context:,}"] = _acting(core, config)
        rows += compare("cores", "transitions", trained, rounds)
        rows += compare("cores", "steps", acting, rounds)
    return rows


def configs(context: int) -> Iterator[tuple[str, Any]]:
    """(core, config) of each, the transformer first."""
    devices = jax.device_count()
    windows = max(1, TRANSITIONS // (context * devices)) * devices
    sizes = {"model.context": context, "train.batch_size": windows, "train.accumulate": 1}
    for core in CORES:
        entry = "AD" if core == "transformer" else f"AD, {core}"
        yield core, changed(ENTRIES[entry](KEY_TO_DOOR, "cpu").config, sizes)


def _facts(part: str, core: str, config: Any, memory: int) -> dict[str, Any]:
    setting = {"part": part, "core": core, "context": config.model.context}
    return {"beside": None, "setting": setting, "memory_bytes": memory}


def _training(core: str, config: Any) -> Candidate:
    """A step of training on one batch, whose windows the devices share."""
    model, init, update = presets.training(config)
    batch = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), presets.batch_shapes(config, model))
    state, key = jax.eval_shape(init, jax.random.key(0)), jax.random.key(0)
    program = jax.jit(update, donate_argnums=0).lower(state, batch, key).compile()
    facts = _facts("training", core, config, program.memory_analysis().temp_size_in_bytes)
    step = presets.repeated(init, update, batch)
    transitions = config.train.batch_size * config.model.context
    return Candidate(lambda: jax.block_until_ready(step()), transitions, facts)


def _acting(core: str, config: Any) -> Candidate:
    """Agents, each in its own room."""
    world = build.world(config)
    model = build.model(config, world.env)
    params = init_params(jax.random.key(0), model)
    mesh = sharding.make_mesh()
    init, advance = make_evaluator(world.env, lambda p, _: model_agent(model, p), mesh)
    ids = sharding.padded(mesh, np.arange(AGENTS))
    inputs = params, jax.random.key(0), ids, world.tasks.params(ids)
    params, *inputs = sharding.put(inputs, sharding.replicated(mesh))
    box = {"state": init(params, *inputs, 1)}

    def work():
        box["state"], history = advance(params, box["state"], STEPS)
        jax.block_until_ready((box, history))

    carry = jax.eval_shape(model.initial_carry)
    memory = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(carry))
    return Candidate(work, AGENTS * STEPS, _facts("acting", core, config, memory))
