"""Training: one step of Algorithm Distillation, beside the same transformer in PyTorch."""

import os

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces

from ad_jax.models.transformer import Transformer, TransformerConfig
from ad_jax.training import distill
from ad_jax.training.optimizer import OptimizerConfig, make_optimizer
from benchmarks.timing import interleave, row

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
        "ad_jax": _ours(batch, context, block=min(context, 60 if context > 100 else 40)),
        "dense": _ours(batch, context, block=context),
    }
    if torch_step := _torch(batch, context):
        candidates["PyTorch"] = torch_step
    seconds = interleave(candidates, rounds)
    amount = BATCH * context * STEPS
    against = None
    if "PyTorch" in seconds:
        against = ("PyTorch", seconds["PyTorch"], amount)
    lines = [
        row(
            "train", f"ad_jax, context {context}", amount, seconds["ad_jax"], "transitions", against
        )
    ]
    lines.append(
        row("train", f"ad_jax with dense attention, context {context}", amount, seconds["dense"],
            "transitions", against)
    )  # fmt: skip
    if against:
        lines.append(
            row("train", f"PyTorch, context {context}", amount, seconds["PyTorch"], "transitions")
        )
    return lines


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


def _torch(batch, context: int):
    """The same model, loss and optimiser in PyTorch, with its fused attention; None without it."""
    try:
        import torch
        from torch import nn
        from torch.nn import functional
    except ImportError:
        return None
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    width, heads = SHAPE["width"], SHAPE["num_heads"]

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up = nn.Linear(width, SHAPE["mlp_width"])
            self.down = nn.Linear(SHAPE["mlp_width"], width)

        def forward(self, x, cos, sin):
            parts = self.qkv(self.norm_attention(x)).view(BATCH, context, 3, heads, -1)
            q, k, v = parts.permute(2, 0, 3, 1, 4)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            read = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(read.transpose(1, 2).reshape(BATCH, context, width))
            hidden = functional.gelu(self.up(self.norm_mlp(x)), approximate="tanh")
            return x + self.down(hidden)

    def rotate(x, cos, sin):
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.x, self.y = nn.Embedding(9, width), nn.Embedding(9, width)
            self.action, self.is_first = nn.Embedding(7, width), nn.Embedding(2, width)
            self.reward = nn.Linear(1, width, bias=False)
            self.blocks = nn.ModuleList(Block() for _ in range(SHAPE["num_layers"]))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)
            half = width // heads // 2
            angle = torch.arange(context)[:, None] * 1e4 ** (-torch.arange(half) / half)
            self.cos, self.sin = angle.cos(), angle.sin()

        def forward(self, observation, action, reward, is_first):
            x = self.x(observation[..., 0]) + self.y(observation[..., 1])
            x = x + self.action(action) + self.is_first(is_first) + self.reward(reward[..., None])
            for block in self.blocks:
                x = block(x, self.cos, self.sin)
            return self.head(self.norm(x))

    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-4, (0.9, 0.99), weight_decay=0.0)
    tensors = {k: torch.as_tensor(v) for k, v in batch.items()}
    inputs = [
        tensors["observation"].long(), tensors["previous_action"].long(),
        tensors["previous_reward"], tensors["is_first"].long(),
    ]  # fmt: skip
    target = tensors["action"].long().flatten()

    def work():
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(*inputs).flatten(0, 1), target)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    return work
