"""Training: one step of Algorithm Distillation, beside the same transformer in PyTorch."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments import spaces

from ad_jax.actions import Actions
from ad_jax.methods import ad
from ad_jax.methods.optimizer import OptimizerConfig, make_optimizer
from ad_jax.methods.train_state import init_state
from ad_jax.models.base import SequenceModel
from ad_jax.models.transformer import TransformerConfig
from benchmarks import peers, presets
from benchmarks.peers import BATCH, SHAPE, random_batch
from benchmarks.timing import Candidate, compare

PART = 2560  # transitions whose gradient is taken at once: what they need stays in the CPU's caches
STEPS, FEW_STEPS = 4, 1  # in a round; few of what is slow
EQUAL = (
    "transformer, float32, loss on every position, clipped AdamW, batch of 64 windows in parts "
    "(ours by a rule, PyTorch's by trial), large pages, freed memory kept"
)
PYTORCH = "PyTorch", "torch"
# Forms of PyTorch: tokens of a transition, what it is asked for, steps, facts.
FORMS = {
    "": (1, "eager", STEPS, {"fair": True, "differs": "eager"}),
    ", compiled": (1, "compiled", STEPS, {"fair": True, "differs": "torch.compile"}),
    ", 3 tokens for each transition": (
        3, "eager", FEW_STEPS,
        {"fair": False, "differs": "as published code does: three tokens; whole batch, not tuned"},
    ),
}  # fmt: skip
LEFT_OUT = {
    "a public Algorithm Distillation in PyTorch": "none was found on the registry; ad-eps, for "
    "example, is scripts for each environment. The form with three tokens is ours, not its code"
}


def run(rounds: int, contexts: tuple[int, ...] = (80, 300)) -> list[dict[str, Any]]:
    """Transitions per second at some contexts."""
    rows = [row for context in contexts for row in _at(context, rounds)]
    return [*rows, *peers.left_out("train", LEFT_OUT | peers.missing(*PYTORCH))]


def _at(context: int, rounds: int) -> list[dict[str, Any]]:
    parts = BATCH // min(BATCH, PART // context)
    candidates = {
        f"ad_jax, context {context}": _ours(context, parts, STEPS),
        f"ad_jax, the batch at once, context {context}": _ours(context, 1, FEW_STEPS),
    }
    with contextlib.ExitStack() as running:
        if not peers.missing(*PYTORCH):
            candidates |= _pytorch(context, running)
        return compare("train", "transitions", candidates, rounds)


def _ours(context: int, parts: int, steps: int) -> Candidate:
    chunk = 60 if context > 100 else 40
    config = TransformerConfig(**SHAPE, context=context, attention_chunk=chunk)
    model = SequenceModel(config, spaces.Box(0, 8, (2,), jnp.int32), Actions.discrete(5))
    optimizer = make_optimizer(OptimizerConfig(), 1000)
    init = lambda key: init_state(key, model, optimizer)
    update = ad.make_update(model, optimizer, accumulate=parts)
    step = presets.repeated(init, update, random_batch(context))

    def work():
        for _ in range(steps):
            metrics = step()
        jax.block_until_ready(metrics)

    setting = {"parts": parts, "devices": jax.device_count()}
    return Candidate(work, BATCH * context * steps, {"setting": setting})


def _pytorch(context: int, running: contextlib.ExitStack) -> dict[str, Candidate]:
    """The same model, loss and optimiser, in processes that end with ``running``."""
    candidates, asks = {}, {}
    for name, (tokens, form, steps, facts) in FORMS.items():
        if tokens not in asks:
            begin = ("benchmarks.peers.pytorch", "train", context, tokens, steps)
            asks[tokens] = running.enter_context(peers.start(*begin))
        ask = asks[tokens]
        facts = {**facts, **peers.facts(ask, form=form), "peer": "PyTorch", "equal": EQUAL}
        work = lambda ask=ask, form=form: ask(form)
        what = f"PyTorch{name}, context {context}"
        candidates[what] = Candidate(work, BATCH * context * steps, facts)
    return candidates
