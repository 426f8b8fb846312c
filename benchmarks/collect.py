"""Collection: PPO on all goals of Dark Room at once, learning verified, beside one goal at a time.

The peers have the same network, epochs and minibatches: Stable-Baselines3 (extra "bench"), and
rejax in an environment of its own, whose Python REJAX_PYTHON names.
"""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from ad_jax.distributed import sharding
from ad_jax.envs import dynamic_programming, registry
from ad_jax.sources import networks
from ad_jax.sources.ppo import PPOConfig, ppo
from benchmarks import peers
from benchmarks.timing import interleave, table

STREAMS = 32
UPDATES = 20  # per round
PEER_UPDATES = {"Stable-Baselines3": 10, "rejax": 20}
REJAX = os.environ.get("REJAX_PYTHON", ".venv-rejax/bin/python")
OPTIMUM = 17  # of the peers' goal


def run(rounds: int) -> list[dict]:
    """Env steps per second: all goals, the same without looking the network up, and the peers."""
    env, tasks = registry.make("DarkRoom")
    mesh, number = sharding.make_mesh(), tasks.num_tasks
    ids = sharding.padded(mesh, np.arange(number))
    optimum = jax.vmap(lambda p: dynamic_programming.optimal_return(env, p))(tasks.params(ids))
    keys = jax.random.split(jax.random.key(0), len(ids))
    tiles = jax.tree.map(
        lambda x: x.reshape(mesh.size, -1, *x.shape[1:]), (keys, tasks.params(ids))
    )
    tiles = jax.device_put(tiles, sharding.task_sharding(mesh))  # a tile is the work of a device
    on_each = lambda function: sharding.on_each_device(mesh, function)

    def candidate(max_table: int):
        """A learner that goes on learning from round to round, and how near its worst goal is."""
        default, networks.MAX_TABLE = networks.MAX_TABLE, max_table
        source = ppo(env, PPOConfig(num_streams=STREAMS))
        networks.MAX_TABLE = default
        step = jax.vmap(source.step)

        def updates(state):
            state, blocks = jax.lax.scan(lambda s, _: step(s), state, length=UPDATES)
            return state, blocks.reward.sum(-1)[-1].mean(-1)

        box = {"state": jax.jit(on_each(jax.vmap(source.init)))(*tiles)}
        advance = jax.jit(on_each(updates), donate_argnums=0)

        def work():
            box["state"], box["return"] = jax.block_until_ready(advance(box["state"]))

        return work, lambda: float(jnp.min(box["return"].ravel() / optimum))

    everywhere = number * STREAMS * 20 * UPDATES
    one = lambda name: STREAMS * 20 * PEER_UPDATES[name]
    learners = {
        f"ad_jax: PPO, MLP 32, {number} tasks x {STREAMS} streams": (
            candidate(networks.MAX_TABLE), everywhere
        ),
        "the same, the network at every step": (candidate(0), everywhere),
        f"Stable-Baselines3: PPO, MLP 32, 1 task x {STREAMS} streams": (
            stable_baselines3(), one("Stable-Baselines3")
        ),
        f"rejax: PPO, MLP 32, 1 task x {STREAMS} streams": (rejax(), one("rejax")),
    }  # fmt: skip
    learners = {name: learner for name, learner in learners.items() if learner[0]}
    seconds = interleave({name: work for name, ((work, _), _) in learners.items()}, rounds)
    amounts = {name: amount for name, (_, amount) in learners.items()}
    lines = table("collect", "env steps", seconds, amounts)
    for line, ((_, last), _) in zip(lines, learners.values(), strict=True):
        line["worst_return_of_optimum"] = last()
    if (rounds + 1) * UPDATES >= 80 and lines[0]["worst_return_of_optimum"] < 0.9:
        raise RuntimeError(f"the learner did not learn: {lines[0]}")
    return lines


def stable_baselines3():
    """(work, the part of the optimum that it has reached), where it is installed."""
    try:
        import gymnasium
        import torch
        from stable_baselines3 import PPO
        from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor
    except ImportError:
        return None

    class DarkRoom(gymnasium.Env):
        observation_space = gymnasium.spaces.MultiDiscrete([9, 9])
        action_space = gymnasium.spaces.Discrete(5)
        moves = np.array([[-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]])

        def reset(self, *, seed=None, options=None):
            self.position, self.time = np.array([4, 4]), 0
            return self.position, {}

        def step(self, action):
            self.position = np.clip(self.position + self.moves[action], 0, 8)
            self.time += 1
            reward = float((self.position == 2).all())
            return self.position, reward, False, self.time == 20, {}

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    learner = PPO(
        "MlpPolicy", VecMonitor(DummyVecEnv([DarkRoom] * STREAMS)), n_steps=20,
        batch_size=STREAMS * 20, n_epochs=4, learning_rate=3e-3, gamma=0.9, gae_lambda=0.95,
        clip_range=0.2, ent_coef=0.02, vf_coef=0.5, max_grad_norm=0.5, seed=0,
        policy_kwargs={"net_arch": {"pi": [32], "vf": [32]}}, device="cpu",
    )  # fmt: skip

    def work():
        steps = STREAMS * 20 * PEER_UPDATES["Stable-Baselines3"]
        learner.learn(steps, reset_num_timesteps=False)

    last = lambda: (
        float(np.mean([e["r"] for e in list(learner.ep_info_buffer)[-STREAMS:]])) / OPTIMUM
    )
    return work, last


def rejax():
    """(work, the part of the optimum that it has reached), where its environment is."""
    if not pathlib.Path(REJAX).exists():
        return None
    ask = peers.start("benchmarks.rejax_ppo", STREAMS, PEER_UPDATES["rejax"], python=REJAX)
    return lambda: ask("work"), lambda: float(ask("return")) / OPTIMUM
