"""PPO of rejax on some goals of Dark Room, in an environment of its own; ``collect.py`` starts it.

    ENVIRONMENT/bin/python -m benchmarks.peers.rejax_ppo STREAMS UPDATES X Y [X Y …]

rejax 0.1.3 needs gymnax 0.0.x. Asked to "work", it trains for UPDATES more updates; asked for the
"return", it answers with the policy's mean return at each goal. All goals are learned at once, with
``vmap``. It tries one CPU device, and one for each core, as ours has. As ours does, it keeps freed
memory, and donates the learners' states.
"""

import importlib.metadata
import json
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

CORES = len(os.sched_getaffinity(0))
jax.config.update("jax_num_cpu_devices", CORES)  # before gymnax starts the backend

from gymnax.environments import environment, spaces  # noqa: E402
from rejax import PPO  # noqa: E402
from rejax.evaluate import evaluate_single  # noqa: E402

from benchmarks.peers import serve, tuned  # noqa: E402
from experiments.runtime.memory import keep_freed_memory  # noqa: E402, needs no packages

STEPS, EPISODES = 20, 32  # of an episode, and those whose returns are averaged


@struct.dataclass
class State:
    position: jax.Array
    time: jax.Array


@struct.dataclass
class Params:
    goal: jax.Array = struct.field(default_factory=lambda: jnp.array([4, 4]))
    max_steps_in_episode: int = STEPS


class DarkRoom(environment.Environment):
    """Dark Room after gymnax 0.0.x; observations are one-hot, as our network has them.

    The goal is a parameter, so that one learner of each goal is a ``vmap``.
    """

    @property
    def default_params(self):
        return Params()

    def step_env(self, key, state, action, params):
        moves = jnp.array([[-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]])
        position = jnp.clip(state.position + moves[action], 0, 8)
        reward = (position == params.goal).all().astype(jnp.float32)
        state = State(position, state.time + 1)
        return self.get_obs(state), state, reward, state.time >= STEPS, {}

    def reset_env(self, key, params):
        state = State(jnp.array([4, 4]), jnp.zeros((), jnp.int32))
        return self.get_obs(state), state

    def get_obs(self, state, params=None, key=None):
        return jax.nn.one_hot(state.position, 9).reshape(-1)

    def action_space(self, params=None):
        return spaces.Discrete(5)

    def observation_space(self, params=None):
        return spaces.Box(0, 1, (18,), jnp.float32)


def main(streams: int, updates: int, *coordinates: int) -> None:
    goals = np.array(coordinates).reshape(-1, 2)
    algorithm = PPO.create(
        env=DarkRoom(), num_envs=streams, num_steps=20, num_epochs=4, num_minibatches=1,
        learning_rate=3e-3, gamma=0.9, gae_lambda=0.95, clip_eps=0.2, ent_coef=0.02, vf_coef=0.5,
        max_grad_norm=0.5, agent_kwargs={"hidden_layer_sizes": (32,), "activation": "tanh"},
    )  # fmt: skip
    of_goal = lambda goal: algorithm.replace(env_params=Params(goal=goal))

    def init(goal):
        return of_goal(goal).init_state(jax.random.key(0))

    def train(goal, state):
        step = lambda state, _: (of_goal(goal).train_iteration(state), None)
        return jax.lax.scan(step, state, length=updates)[0]

    def mean_return(goal, state):
        act = of_goal(goal).make_act(state)
        episode = lambda key: evaluate_single(act, algorithm.env, Params(goal=goal), key, STEPS)[1]
        return jax.vmap(episode)(jax.random.split(jax.random.key(1), EPISODES)).mean()

    states = {}  # of the learners on so many devices

    def make(devices: int):
        mesh = jax.sharding.Mesh(jax.devices()[:devices], ("goals",))
        goals_G = np.pad(goals, ((0, -len(goals) % devices), (0, 0)), mode="edge")
        spread = jax.sharding.PartitionSpec("goals")
        on_all = lambda function: jax.shard_map(
            jax.vmap(function), mesh=mesh, in_specs=spread, out_specs=spread, check_vma=False
        )
        states[devices] = jax.jit(on_all(init))(goals_G)
        advance = jax.jit(on_all(train), donate_argnums=1)

        def work():
            states[devices] = jax.block_until_ready(advance(goals_G, states[devices]))

        return work

    grid = [dict(devices=n) for n in sorted({1, min(CORES, len(goals))})]
    ((best, work),) = tuned(make, grid)

    def returns():
        state = jax.device_get(states[best["devices"]])
        state = jax.tree.map(lambda x: x[: len(goals)], state)
        return json.dumps(jax.jit(jax.vmap(mean_return))(goals, state).tolist())

    versions = (f"{name} {importlib.metadata.version(name)}" for name in ("rejax", "jax"))
    serve(", ".join(versions), {"work": (best, work)}, {"return": returns})


if __name__ == "__main__":
    keep_freed_memory()
    main(*map(int, sys.argv[1:]))
