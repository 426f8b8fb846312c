"""Collection: PPO on all goals of Dark Room at once, learning verified."""

import jax
import jax.numpy as jnp
import numpy as np

from ad_jax.envs import dynamic_programming, registry
from ad_jax.sources import networks
from ad_jax.sources.ppo import PPOConfig, ppo
from benchmarks.timing import interleave, row

STREAMS = 32
UPDATES = 20  # per round


def run(rounds: int) -> list[dict]:
    """Env steps per second with the default MLP: looked up, and evaluated at every step."""
    env, tasks = registry.make("DarkRoom")
    ids = np.arange(tasks.num_tasks)
    params = tasks.params(ids)
    optimum = jax.vmap(lambda p: dynamic_programming.optimal_return(env, p))(params)
    keys = jax.random.split(jax.random.key(0), len(ids))

    def candidate(max_table: int):
        """A learner that goes on learning from round to round, and its last returns."""
        default, networks.MAX_TABLE = networks.MAX_TABLE, max_table
        source = ppo(env, PPOConfig(num_streams=STREAMS))
        networks.MAX_TABLE = default
        step = jax.vmap(source.step)

        def updates(state):
            state, blocks = jax.lax.scan(lambda s, _: step(s), state, length=UPDATES)
            return state, blocks.reward.sum(-1)[-1].mean(-1)

        box = {"state": jax.jit(jax.vmap(source.init))(keys, params)}
        advance = jax.jit(updates, donate_argnums=0)

        def work():
            box["state"], box["return"] = jax.block_until_ready(advance(box["state"]))

        return work, box

    (table, learned), (plain, _) = candidate(networks.MAX_TABLE), candidate(0)
    seconds = interleave({"table": table, "plain": plain}, rounds)
    worst = float(jnp.min(learned["return"] / optimum))
    if (rounds + 1) * UPDATES >= 80 and worst < 0.9:
        raise RuntimeError(f"the learner only reached {worst:.2f} of the optimum on a goal")
    amount = len(ids) * STREAMS * 20 * UPDATES
    against = ("the network at every step", seconds["plain"], amount)
    what = f"PPO, MLP 32, 81 tasks x {STREAMS} streams (worst goal: {worst:.2f} of the optimum)"
    return [
        row("collect", what, amount, seconds["table"], "env steps", against),
        row(
            "collect", "the same, the network at every step", amount, seconds["plain"], "env steps"
        ),
    ]
