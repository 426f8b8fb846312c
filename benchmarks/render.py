"""Rendering: frames of Watermaze drawn inside a compiled rollout, and drawn point by point."""

import functools

import jax
import numpy as np

from ad_jax.envs import raycast
from ad_jax.envs.watermaze import Watermaze
from benchmarks.timing import Candidate, compare

PLAYERS = 256


def run(rounds: int) -> list[dict]:
    """Frames per second of random rollouts: a step of the dynamics, then one frame."""
    env = Watermaze()
    params = env.tasks().params(np.arange(PLAYERS))

    def candidate(draw, steps: int):
        """A rollout that goes on from round to round, and the frames drawn in one."""

        def advance(carry, key):
            # The frame before is dropped; as it is carried, every pixel of it had to be drawn.
            state, _ = carry
            key_action, key_step = jax.random.split(key)
            action = jax.random.randint(key_action, (PLAYERS,), 0, env.num_actions)
            keys = jax.random.split(key_step, PLAYERS)
            pose, state, *_ = jax.vmap(env.step)(keys, state, action, params)
            return (state, draw(pose)), None

        @functools.partial(jax.jit, donate_argnums=1)
        def rollout(key, carry):
            return jax.lax.scan(advance, carry, jax.random.split(key, steps))[0]

        keys = jax.random.split(jax.random.key(0), PLAYERS)
        pose, state = jax.jit(jax.vmap(env.reset))(keys, params)
        box = {"carry": (state, jax.jit(draw)(pose))}

        def work():
            box["carry"] = jax.block_until_ready(rollout(jax.random.key(1), box["carry"]))

        return Candidate(work, PLAYERS * steps)

    what = f"Watermaze, {PLAYERS} players: a random step and a frame of 72 x 96"
    candidates = {
        f"ad_jax: {what}": candidate(raycast.render, 100),
        "the same, point by point": candidate(
            functools.partial(raycast.render_reference, samples=1), 10
        ),
    }
    return compare("render", "frames", candidates, rounds)
