"""Evaluation in context: one agent in each of 81 Dark Rooms, by the length of the context."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np

from ad_jax.distributed import sharding
from ad_jax.envs import registry
from ad_jax.evaluation.agents import model_agent
from ad_jax.models.base import SequenceModel
from ad_jax.models.transformer import TransformerConfig
from benchmarks import peers
from benchmarks.peers import SHAPE
from benchmarks.timing import interleave, table
from experiments.stages.evaluate import make_evaluator

STEPS, FEW_STEPS = 100, 5  # per round; those that pass over the context at every step make few
ROOMS = 81


def run(rounds: int, contexts: tuple[int, ...] = (60, 300)) -> list[dict]:
    """Env steps per second with the ring cache, without, and in PyTorch."""
    return [line for context in contexts for line in _at(context, rounds)]


def _at(context: int, rounds: int) -> list[dict]:
    what = f"{ROOMS} rooms, context {context}"
    candidates = {
        f"ad_jax: {what}, ring cache": (_ours("fast", context, STEPS), STEPS),
        "the same, the context at every step": (_ours("exact", context, FEW_STEPS), FEW_STEPS),
        **_pytorch(context, what),
    }
    seconds = interleave({name: work for name, (work, _) in candidates.items()}, rounds)
    amounts = {name: ROOMS * steps for name, (_, steps) in candidates.items()}
    return table("evaluate", "env steps", seconds, amounts)


def _ours(mode: str, context: int, steps: int):
    env, tasks = registry.make("DarkRoom")
    config = TransformerConfig(**SHAPE, context=context)
    model = SequenceModel(config, env.observation_space(), env.num_actions)
    zeros = jnp.zeros
    params = model.init(
        jax.random.key(0), zeros((1, 1, 2), jnp.int32), zeros((1, 1), jnp.int32),
        zeros((1, 1)), zeros((1, 1), bool),
    )  # fmt: skip
    mesh = sharding.make_mesh()
    init, advance = make_evaluator(env, lambda p, _: model_agent(model, p, mode=mode), mesh)
    ids = sharding.padded(mesh, np.arange(ROOMS))
    inputs = params, jax.random.key(0), ids, tasks.params(ids)
    params, *inputs = sharding.put(inputs, sharding.replicated(mesh))
    box = {"state": init(params, *inputs, 1)}

    def work():
        box["state"], history = advance(params, box["state"], steps)
        jax.block_until_ready((box, history))

    return work


def _pytorch(context: int, what: str):
    """The same model in PyTorch, where it is installed."""
    if not importlib.util.find_spec("torch"):
        return {}
    forms = {"KV cache": (1, STEPS), "the context at every step": (0, FEW_STEPS)}
    candidates = {}
    for name, (cached, steps) in forms.items():
        ask = peers.start("benchmarks.pytorch", "act", context, ROOMS, cached, steps)
        candidates[f"PyTorch: {what}, {name}"] = (lambda ask=ask: ask("work"), steps)
    return candidates
