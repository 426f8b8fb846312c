"""Training: one step of Algorithm Distillation, beside the same transformer in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces

from ad_jax.models.transformer import Transformer, TransformerConfig
from ad_jax.training import distill
from ad_jax.training.optimizer import OptimizerConfig, make_optimizer
from benchmarks.timing import interleave, table

BATCH, STEPS = 64, 5  # steps per round
SHAPE = dict(width=64, num_layers=4, num_heads=4, mlp_width=256)


def run(rounds: int, contexts: tuple[int, ...] = (80, 300)) -> list[dict]:
    """Transitions per second at two contexts."""
    return [line for context in contexts for line in _at(context, rounds)]


def _at(context: int, rounds: int) -> list[dict]:
    rng = np.random.default_rng(0)
    batch = {
        "observation": rng.integers(0, 9, (BATCH, context, 2)).astype(np.int32),
        "previous_action": rng.integers(0, 6, (BATCH, context)).astype(np.int32),
        "previous_reward": rng.random((BATCH, context)).astype(np.float32),
        "is_first": rng.random((BATCH, context)) < 0.05,
        "action": rng.integers(0, 5, (BATCH, context)).astype(np.int32),
    }
    candidates = {
        f"ad_jax, context {context}": _ours(batch, context, block=60 if context > 100 else 40),
        f"ad_jax with dense attention, context {context}": _ours(batch, context, block=context),
        **_pytorch(batch, context),
    }
    amounts = dict.fromkeys(candidates, BATCH * context * STEPS)
    return table("train", "transitions", interleave(candidates, rounds), amounts)


def _ours(batch, context: int, block: int):
    config = TransformerConfig(**SHAPE, context=context, attention_block=block)
    model = Transformer(config, spaces.Box(0, 8, (2,), jnp.int32), 5)
    optimizer = make_optimizer(OptimizerConfig(), 1000)
    update = jax.jit(distill.make_update(model, optimizer), donate_argnums=0)
    init = jax.jit(lambda key: distill.init_state(key, model, optimizer))
    box = {"state": init(jax.random.key(0))}
    batch, key = jax.device_put((batch, jax.random.key(0)))

    def work():
        for _ in range(STEPS):
            box["state"], metrics = update(box["state"], batch, key)
        jax.block_until_ready((box, metrics))

    return work


def _pytorch(batch, context: int):
    """The same model, loss and optimiser in PyTorch, where it is installed."""
    try:
        from benchmarks import pytorch
    except ImportError:
        return {}
    forms = {"1 token": (1, False), "1 token, compiled": (1, True), "3 tokens": (3, False)}
    candidates = {}
    for name, (tokens, compiled) in forms.items():
        step = pytorch.train_step(batch, SHAPE, context, tokens, compiled)
        candidates[f"PyTorch, {name}, context {context}"] = lambda step=step: [
            step() for _ in range(STEPS)
        ]
    return candidates
