"""Acting in context against the length of the context, and against the number of tasks."""

import time

import jax
import numpy as np

from ad_jax.actions import Actions
from ad_jax.distributed import sharding
from ad_jax.envs import registry
from ad_jax.evaluation.agents import model_agent
from ad_jax.methods.train_state import init_params
from ad_jax.models.base import SequenceModel
from ad_jax.models.transformer import TransformerConfig
from benchmarks.growth import fit
from benchmarks.peers import SHAPE
from experiments.stages.evaluate import make_evaluator

CONTEXTS = (80, 320, 1280, 4096)
TASKS = (1, 10, 100, 1000, 10_000)
ROOMS, STEPS = 64, 40
MANY_CONTEXT, MANY_STEPS = 80, 10  # where the number of tasks grows


def run(
    rounds: int, contexts: tuple[int, ...] = CONTEXTS, tasks: tuple[int, ...] = TASKS
) -> list[dict]:
    """Seconds of a step of one environment, with the ring cache."""
    by_context = fit.in_turns([_timed(ROOMS, c, STEPS) for c in contexts], rounds)
    by_tasks = fit.in_turns([_timed(n, MANY_CONTEXT, MANY_STEPS) for n in tasks], rounds)
    # Each room reads 2 E T keys and values. The parameters, 12 E² of a layer, need be read
    # once for all rooms: each tile of rooms reads them anew, but they fit the caches.
    parameters = 6 * SHAPE["width"] / ROOMS
    return [
        fit.row(fit.Line(
            "evaluate, context", f"time of a step of one of {ROOMS} rooms", "µs",
            "steps of context", contexts, 1e6 * by_context / ROOMS,
            [parameters + c for c in contexts], "what it reads: keys, values, parameters",
        )),
        fit.row(fit.Line(
            "evaluate, tasks", f"time of a step of all, context {MANY_CONTEXT}", "ms",
            "tasks", tasks, 1e3 * by_tasks, tasks, "tasks",
        )),
    ]  # fmt: skip


def _timed(rooms: int, context: int, steps: int):
    """A function that makes some steps, and returns the seconds of one."""
    env, tasks = registry.make("DarkRoom")
    config = TransformerConfig(**SHAPE, context=context)
    model = SequenceModel(config, env.observation_space(), Actions.of(env))
    mesh = sharding.make_mesh()
    init, advance = make_evaluator(env, lambda p, _: model_agent(model, p), mesh)
    ids = sharding.padded(mesh, np.resize(np.arange(tasks.num_tasks), rooms))
    inputs = init_params(jax.random.key(0), model), jax.random.key(0), ids, tasks.params(ids)
    params, *inputs = sharding.put(inputs, sharding.replicated(mesh))
    box = {}

    def work() -> float:
        # Not kept from turn to turn: the caches of many rooms fill the memory.
        box["state"] = jax.block_until_ready(init(params, *inputs, 1))
        began = time.perf_counter()
        jax.block_until_ready(advance(params, box.pop("state"), steps))
        return (time.perf_counter() - began) / steps

    return work
