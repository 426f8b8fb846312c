"""Training: one step of Algorithm Distillation, beside the same transformer in PyTorch."""

import importlib.util

import jax
import jax.numpy as jnp
from gymnax.environments import spaces

from ad_jax.methods import ad
from ad_jax.methods.optimizer import OptimizerConfig, make_optimizer
from ad_jax.methods.train_state import init_state
from ad_jax.models.base import SequenceModel
from ad_jax.models.transformer import TransformerConfig
from benchmarks import peers, presets
from benchmarks.peers import BATCH, SHAPE, STEPS, random_batch
from benchmarks.timing import interleave, table

PART = 2560  # transitions whose gradient is taken at once: what they need stays in the CPU's caches
FORMS = {"1 token": (1, 0), "3 tokens": (3, 0), "1 token, compiled": (1, 1)}


def run(rounds: int, contexts: tuple[int, ...] = (80, 300), forms: int = 3) -> list[dict]:
    """Transitions per second at two contexts, and those of the first ``forms`` of PyTorch."""
    return [line for context in contexts for line in _at(context, rounds, forms)]


def _at(context: int, rounds: int, forms: int) -> list[dict]:
    batch, chunk = random_batch(context), 60 if context > 100 else 40
    parts = BATCH // min(BATCH, PART // context)
    candidates = {
        f"ad_jax, context {context}": _ours(batch, context, chunk, parts),
        f"ad_jax, the batch at once, context {context}": _ours(batch, context, chunk, 1),
        **_pytorch(context, forms),
    }
    amounts = dict.fromkeys(candidates, BATCH * context * STEPS)
    return table("train", "transitions", interleave(candidates, rounds), amounts)


def _ours(batch, context: int, chunk: int, parts: int):
    config = TransformerConfig(**SHAPE, context=context, attention_chunk=chunk)
    model = SequenceModel(config, spaces.Box(0, 8, (2,), jnp.int32), 5)
    optimizer = make_optimizer(OptimizerConfig(), 1000)
    init = lambda key: init_state(key, model, optimizer)
    step = presets.repeated(init, ad.make_update(model, optimizer, accumulate=parts), batch)

    def work():
        for _ in range(STEPS):
            metrics = step()
        jax.block_until_ready(metrics)

    return work


def _pytorch(context: int, forms: int):
    """The same model, loss and optimiser in PyTorch, where it is installed."""
    if not importlib.util.find_spec("torch"):
        return {}
    candidates = {}
    for name, form in list(FORMS.items())[:forms]:
        ask = peers.start("benchmarks.pytorch", "train", context, *form)
        candidates[f"PyTorch, {name}, context {context}"] = lambda ask=ask: ask("work")
    return candidates
