"""Evaluation in context: one agent in each of 81 Dark Rooms, by the length of the context."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ad_jax.actions import Actions
from ad_jax.distributed import sharding
from ad_jax.envs import registry
from ad_jax.evaluation.agents import model_agent
from ad_jax.models.base import SequenceModel
from ad_jax.models.transformer import TransformerConfig
from benchmarks import peers
from benchmarks.peers import SHAPE
from benchmarks.timing import Candidate, compare
from experiments.stages.evaluate import make_evaluator

STEPS, FEW_STEPS = 500, 5  # per round; few if every step recomputes the whole context
ROOMS = 81
EQUAL = (
    "transformer, float32, rooms, full contexts, sampled actions, the room's step included, large "
    "pages, freed memory kept"
)
PYTORCH = "PyTorch", "torch"
# Forms of PyTorch: what it is asked for, steps, facts.
FORMS = {
    "KV cache": ("eager", STEPS, {"fair": True, "differs": "eager"}),
    "KV cache, compiled": (
        "compiled", STEPS, {"fair": True, "differs": "torch.compile of the whole step"}
    ),
    "the context at every step": (
        "recomputed", FEW_STEPS, {"fair": False, "differs": "as published code does: no cache"}
    ),
}  # fmt: skip


def run(rounds: int, contexts: tuple[int, ...] = (60, 300)) -> list[dict[str, Any]]:
    """Env steps per second with the ring cache, without, and in PyTorch."""
    rows = [row for context in contexts for row in _at(context, rounds)]
    return [*rows, *peers.left_out("evaluate", peers.missing(*PYTORCH))]


def _at(context: int, rounds: int) -> list[dict[str, Any]]:
    what = f"{ROOMS} rooms, context {context}"
    candidates = {
        f"ad_jax: {what}, ring cache": _ours("fast", context, STEPS),
        f"the same, the context at every step, context {context}": _ours(
            "exact", context, FEW_STEPS
        ),
    }
    with contextlib.ExitStack() as running:
        if not peers.missing(*PYTORCH):
            candidates |= _pytorch(context, what, running)
        return compare("evaluate", "env steps", candidates, rounds)


def _ours(mode: str, context: int, steps: int) -> Candidate:
    env, tasks = registry.make("DarkRoom")
    config = TransformerConfig(**SHAPE, context=context)
    model = SequenceModel(config, env.observation_space(), Actions.of(env))
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

    return Candidate(work, ROOMS * steps, {"setting": {"devices": mesh.size}})


def _pytorch(context: int, what: str, running: contextlib.ExitStack) -> dict[str, Candidate]:
    """The same model in rooms written in PyTorch, in a process that ends with ``running``."""
    begin = ("benchmarks.peers.pytorch", "act", context, ROOMS, STEPS, FEW_STEPS)
    ask = running.enter_context(peers.start(*begin))
    candidates = {}
    for name, (form, steps, facts) in FORMS.items():
        facts = {**facts, **peers.facts(ask, form=form), "peer": "PyTorch", "equal": EQUAL}
        work = lambda form=form: ask(form)
        candidates[f"PyTorch: {what}, {name}"] = Candidate(work, ROOMS * steps, facts)
    return candidates
