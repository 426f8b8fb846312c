"""The transformer of Algorithm Distillation in PyTorch, to be compared with.

    python -m benchmarks.pytorch train CONTEXT TOKENS COMPILED
    python -m benchmarks.pytorch act CONTEXT ROOMS CACHED STEPS

Asked to "work", it makes some steps of training, or in its environments.
"""

import os
import sys

import torch
from torch import nn
from torch.nn import functional

from benchmarks.peers import SHAPE, STEPS, random_batch, serve

torch.set_num_threads(len(os.sched_getaffinity(0)))


class Block(nn.Module):
    """Pre-norm attention with rotary positions, then an MLP."""

    def __init__(self, width: int, heads: int, mlp_width: int):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, mlp_width), nn.Linear(mlp_width, width)

    def forward(self, x, cos, sin, cache=None, visible=None, slot=None):
        """[B, T, width]; with a cache (keys, values) of [B, heads, C, D], of one step."""
        parts = self.qkv(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        if cache is not None:
            cache[0][:, :, slot], cache[1][:, :, slot] = k[:, :, 0], v[:, :, 0]
            k, v = cache
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

    def decode(self, cache, position: int, observation, action, reward, is_first):
        """Logits [B, 5] of step ``position``; inputs [B, 1, …]. Writes to the cache."""
        x = self.embed(observation, action, reward, is_first)
        slot, seen = position % self.context, min(position + 1, self.context)
        angle = position % len(self.cos)  # only the time is measured
        cos, sin = self.cos[angle], self.sin[angle]
        visible = torch.arange(self.context)[None] < seen  # [queries, keys]
        for block, layer in zip(self.blocks, cache, strict=True):
            x = block(x, cos, sin, layer, visible, slot)
        return self.head(self.norm(x[:, 0]))


def training(context: int, tokens: int, compiled: int):
    """A function that makes ``STEPS`` steps of training."""
    model, batch = Model(SHAPE, context, tokens), random_batch(context)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-4, (0.9, 0.99), weight_decay=0.0)
    tensors = {k: torch.as_tensor(v) for k, v in batch.items()}
    inputs = [
        tensors["observation"].long(), tensors["previous_action"].long(),
        tensors["previous_reward"], tensors["is_first"].long(),
    ]  # fmt: skip
    target = tensors["action"].long().flatten()
    apply = torch.compile(model) if compiled else model

    def work() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = functional.cross_entropy(apply(*inputs).flatten(0, 1), target)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    return work


class Room:
    """Some Dark Rooms side by side, and what an agent in them has seen."""

    def __init__(self, number: int):
        self.goal = torch.stack([torch.arange(number) % 9, torch.arange(number) // 9 % 9], -1)
        self.moves = torch.tensor([[-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]])
        self.time = 0
        self.seen = self._reset(torch.full((number,), 5), torch.zeros(number))

    def _reset(self, action, reward):
        self.position = torch.full_like(self.goal, 4)
        return self.position, action, reward, torch.ones_like(action)

    def step(self, action):
        """Moves; then (observation, action, reward, is_first) of the next step are ``seen``."""
        self.time += 1
        self.position = (self.position + self.moves[action]).clamp(0, 8)
        reward = (self.position == self.goal).all(-1).float()
        self.seen = self.position, action, reward, torch.zeros_like(action)
        if self.time % 20 == 0:
            self.seen = self._reset(action, reward)


def acting(context: int, rooms: int, cached: int, steps: int):
    """A function that makes so many steps in context, in each of some rooms."""
    model, room = Model(SHAPE, context).eval(), Room(rooms)
    cache = model.empty_cache(rooms)
    windows = [room.seen] * context  # full, as it is from then on

    @torch.inference_mode()
    def act(steps: int) -> None:
        for _ in range(steps):
            if cached:
                logits = model.decode(cache, room.time, *(x[:, None] for x in room.seen))
            else:
                windows.append(room.seen)
                del windows[:-context]
                logits = model(*(torch.stack(x, 1) for x in zip(*windows, strict=True)))[:, -1]
            room.step(torch.distributions.Categorical(logits=logits).sample())

    return lambda: act(steps)


if __name__ == "__main__":
    make = {"train": training, "act": acting}[sys.argv[1]]
    serve({"work": make(*map(int, sys.argv[2:]))})
