"""Evaluation in context: 128 environments, by the length of the context."""

import jax
import jax.numpy as jnp
import numpy as np

from ad_jax.envs import registry
from ad_jax.evaluation.agents import transformer_agent
from ad_jax.evaluation.rollout import make_rollouts
from ad_jax.models.transformer import Transformer, TransformerConfig
from benchmarks.timing import interleave, row

TASKS, ROLLOUTS = 16, 8
STEPS, EXACT_STEPS = 100, 5  # per round
CONTEXTS = (40, 80, 160, 320)


def run(rounds: int) -> list[dict]:
    """Env steps per second with the ring cache, against passing over the context at every step."""
    candidates = {("fast", context): _candidate("fast", context, STEPS) for context in CONTEXTS}
    candidates["exact", 80] = _candidate("exact", 80, EXACT_STEPS)
    seconds = interleave(candidates, rounds)
    envs = TASKS * ROLLOUTS
    exact = ("exact", seconds["exact", 80], envs * EXACT_STEPS)
    lines = []
    for context in CONTEXTS:
        what = f"{envs} environments, ring cache, context {context}"
        against = exact if context == 80 else None
        lines.append(
            row("evaluate", what, envs * STEPS, seconds["fast", context], "env steps", against)
        )
    what = f"{envs} environments, the whole context at every step, context 80"
    lines.append(row("evaluate", what, envs * EXACT_STEPS, exact[1], "env steps"))
    return lines


def _candidate(mode: str, context: int, steps: int):
    env, tasks = registry.make("DarkRoom")
    shape = dict(width=64, num_layers=4, num_heads=4, mlp_width=256, context=context)
    model = Transformer(TransformerConfig(**shape), env.observation_space(), env.num_actions)
    zeros = jnp.zeros
    params = model.init(
        jax.random.key(0), zeros((1, 1, 2), jnp.int32), zeros((1, 1), jnp.int32),
        zeros((1, 1)), zeros((1, 1), bool),
    )  # fmt: skip
    init, advance = make_rollouts(env, lambda _: transformer_agent(model, params, mode=mode))
    ids = np.arange(TASKS)
    state = jax.jit(init, static_argnums=3)(jax.random.key(0), ids, tasks.params(ids), ROLLOUTS)
    box = {"state": state}
    advance = jax.jit(advance, static_argnums=1, donate_argnums=0)

    def work():
        box["state"], history = advance(box["state"], steps)
        jax.block_until_ready((box, history))

    return work
