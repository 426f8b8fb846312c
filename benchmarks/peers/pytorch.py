"""The transformer of Algorithm Distillation in PyTorch.

    python -m benchmarks.peers.pytorch train CONTEXT TOKENS STEPS
    python -m benchmarks.peers.pytorch act CONTEXT ROOMS STEPS FEW_STEPS

Asked for "eager" or "compiled", it does STEPS steps of training, or in each of ROOMS rooms. Asked
for "recomputed", it does FEW_STEPS steps in the rooms, each from the whole context.

As PyTorch's guide to tuning advises for a CPU, the number of threads is chosen, operators are fused
(its attention, AdamW, torch.compile), gradients are not zeroed, acting is in inference mode, and
freed memory is kept. Matrix products stay in float32, as ours do. Threads are not pinned to cores,
since that would pin the compiler's threads as well.
"""

import functools
import itertools
import os
import sys
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from benchmarks.peers import SHAPE, Setting, random_batch, serve, tuned
from experiments.runtime.memory import keep_freed_memory

Works = dict[str, tuple[Setting, Callable[[], object]]]

CORES = len(os.sched_getaffinity(0))
THREADS = sorted({1, CORES})
PARTS = (1, 2, 4, 8)  # of a batch, whose gradients are added up
COMPILED = 2  # of the fastest settings are compiled, which takes a while for each


class Block(nn.Module):
    """Pre-norm attention with rotary positions, then an MLP."""

    def __init__(self, width: int, heads: int, mlp_width: int):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, mlp_width), nn.Linear(mlp_width, width)

    def forward(self, x, cos, sin, cache=None, slot=None, visible=None):
        """[B, T, width]; with a cache (keys, values) of [B, heads, C, D], of one step.

        ``visible``, bool [1, C], says which slots hold a step; None: all do.
        """
        parts = self.qkv(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        if cache is not None:
            k, v = cache[0].index_copy_(2, slot, k), cache[1].index_copy_(2, slot, v)
        read = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=visible, is_causal=cache is None
        )
        x = x + self.out(read.transpose(1, 2).flatten(2))
        hidden = functional.gelu(self.up(self.norm_mlp(x)), approximate="tanh")
        return x + self.down(hidden)


def _rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class Model(nn.Module):
    """Logits of the next action; for Dark Room.

    Args:
      shape: width, num_layers, num_heads, mlp_width.
      context: transitions.
      tokens: of a transition: 1, the sum of its embeddings, or 3, an observation, an action and a
        reward, one after the other, as published code of Algorithm Distillation has it.
    """

    def __init__(self, shape: dict[str, int], context: int, tokens: int = 1):
        super().__init__()
        width, self.context, self.tokens = shape["width"], context, tokens
        self.x, self.y = nn.Embedding(9, width), nn.Embedding(9, width)
        self.action, self.is_first = nn.Embedding(7, width), nn.Embedding(2, width)
        self.reward = nn.Linear(1, width, bias=False)
        self.blocks = nn.ModuleList(
            Block(width, shape["num_heads"], shape["mlp_width"]) for _ in range(shape["num_layers"])
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)
        half = width // shape["num_heads"] // 2
        angle = torch.arange(tokens * context)[:, None] * 1e4 ** (-torch.arange(half) / half)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def embed(self, observation, action, reward, is_first):
        """[B, T * tokens, width]; ``action`` and ``reward`` are those before the observation."""
        seen = self.x(observation[..., 0]) + self.y(observation[..., 1]) + self.is_first(is_first)
        parts = self.action(action), self.reward(reward[..., None]), seen
        if self.tokens == 1:
            return sum(parts)
        return torch.stack(parts, 2).flatten(1, 2)

    def forward(self, observation, action, reward, is_first):
        """Logits [B, T, 5], by one pass over whole windows."""
        x = self.embed(observation, action, reward, is_first)
        cos, sin = self.cos[: x.shape[1]], self.sin[: x.shape[1]]
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.head(self.norm(x[:, self.tokens - 1 :: self.tokens]))

    def empty_cache(self, batch: int):
        """A ring of ``context`` keys and values for each layer."""
        heads = self.blocks[0].heads
        shape = batch, heads, self.context, self.norm.normalized_shape[0] // heads
        return [(torch.zeros(shape), torch.zeros(shape)) for _ in self.blocks]

    def decode(self, cache, time, full: bool, observation, action, reward, is_first):
        """Logits [B, 5] of step ``time``, int64 [1]; inputs [B, 1, …]. Writes to the cache.

        Once the ring is ``full``, nothing in it has to be hidden.
        """
        x = self.embed(observation, action, reward, is_first)
        slot = time % self.context
        angle = time % len(self.cos)  # only the time is measured
        cos, sin = self.cos[angle], self.sin[angle]
        visible = None if full else torch.arange(self.context)[None] <= time
        for block, layer in zip(self.blocks, cache, strict=True):
            x = block(x, cos, sin, layer, slot, visible)
        return self.head(self.norm(x[:, 0]))


def columns(context: int) -> list[torch.Tensor]:
    """``random_batch`` as tensors: the model's inputs, then the actions that it should predict."""
    dtypes = {
        "observation": torch.long, "previous_action": torch.long, "previous_reward": torch.float,
        "is_first": torch.long, "action": torch.long,
    }  # fmt: skip
    batch = random_batch(context)
    return [torch.as_tensor(batch[name]).to(dtype) for name, dtype in dtypes.items()]


def mean_loss(model, *columns):
    """The mean loss of predicting the last column, actions [B, T], from the others."""
    *inputs, action = columns
    return functional.cross_entropy(model(*inputs).flatten(0, 1), action.flatten())


def add_gradients(loss, model, columns, parts: int) -> None:
    """Adds up the gradients of a batch's mean loss, over equal parts of the batch in turn."""
    for part in zip(*(x.chunk(parts) for x in columns), strict=True):
        (loss(model, *part) / parts).backward()


def training(context: int, tokens: int, steps: int) -> Works:
    """Training for ``steps`` steps; with three tokens it is not tuned, as in published code."""
    model, batch = Model(SHAPE, context, tokens), columns(context)
    optimizer = torch.optim.AdamW(
        model.parameters(), 3e-4, (0.9, 0.99), weight_decay=0.0, fused=True
    )

    def make(loss, steps: int, parts: int, threads: int):
        def work() -> None:
            torch.set_num_threads(threads)
            for _ in range(steps):
                optimizer.zero_grad()
                add_gradients(loss, model, batch, parts)
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()

        return work

    if tokens > 1:
        setting = dict(parts=1, threads=CORES)
        return {"eager": (setting, make(mean_loss, steps, **setting))}
    grid = [dict(threads=t, parts=p) for t, p in itertools.product(THREADS, PARTS)]
    fastest = tuned(functools.partial(make, mean_loss, 1), grid, COMPILED)
    (eager, _), *_ = fastest
    compiled = torch.compile(mean_loss, dynamic=False)
    ((best, _),) = tuned(functools.partial(make, compiled, 1), [s for s, _ in fastest])
    return {
        "eager": (eager, make(mean_loss, steps, **eager)),
        "compiled": (best, make(compiled, steps, **best)),
    }


class Room(NamedTuple):
    """Some Dark Rooms side by side, and what an agent in them sees; after ``time`` steps, [1]."""

    time: torch.Tensor
    position: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    is_first: torch.Tensor

    @classmethod
    def new(cls, number: int, time: int):
        """Rooms before their first episode, with a step count that starts at ``time``."""
        return cls(
            torch.tensor([time]), torch.full((number, 2), 4), torch.full((number,), 5),
            torch.zeros(number), torch.ones(number, dtype=torch.long),
        )  # fmt: skip

    def step(self, action, goal):
        """Moves; an episode ends after 20 steps."""
        moves = torch.tensor([[-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]])
        position = (self.position + moves[action]).clamp(0, 8)
        reward = (position == goal).all(-1).float()
        time = self.time + 1
        is_last = time % 20 == 0
        position = torch.where(is_last, 4, position)
        return Room(time, position, action, reward, torch.zeros_like(action) + is_last)


def acting(context: int, rooms: int, steps: int, few: int) -> Works:
    """Acting in context: ``steps`` steps with a cache, and ``few`` without."""
    model = Model(SHAPE, context).eval()
    goal = torch.stack([torch.arange(rooms) % 9, torch.arange(rooms) // 9 % 9], -1)
    cache = model.empty_cache(rooms)

    def act(room: Room) -> Room:
        seen = (x[:, None] for x in room[1:])
        logits = model.decode(cache, room.time, True, *seen)
        return room.step(torch.multinomial(logits.softmax(-1), 1)[:, 0], goal)

    def make(act, steps: int, threads: int):
        with torch.inference_mode():  # so that one compiled program serves from the first step
            box = {"room": Room.new(rooms, context)}  # contexts are full, and stay so

        @torch.inference_mode()
        def work() -> None:
            torch.set_num_threads(threads)
            for _ in range(steps):
                box["room"] = act(box["room"])

        return work

    window = [Room.new(rooms, context)] * context

    def recompute(room: Room) -> Room:
        window.append(room)
        del window[:-context]
        _, *seen = (torch.stack(x, 1) for x in zip(*window, strict=True))
        logits = model(*seen)[:, -1]
        return room.step(torch.multinomial(logits.softmax(-1), 1)[:, 0], goal)

    grid = [dict(threads=t) for t in THREADS]
    forms = {
        "eager": (act, steps),
        "compiled": (torch.compile(act, dynamic=False), steps),
        "recomputed": (recompute, few),
    }
    return {
        name: tuned(functools.partial(make, act, steps), grid)[0]
        for name, (act, steps) in forms.items()
    }


if __name__ == "__main__":
    keep_freed_memory()
    make = {"train": training, "act": acting}[sys.argv[1]]
    serve(f"PyTorch {torch.__version__}", make(*map(int, sys.argv[2:])))
