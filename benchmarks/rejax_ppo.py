"""PPO of rejax on one Dark Room, in an environment of its own; ``collect.py`` starts it.

    ENVIRONMENT/bin/python -m benchmarks.rejax_ppo STREAMS UPDATES

rejax 0.1.3 wants gymnax 0.0.x. Asked to "work" it trains for so many updates more; asked for the
"return", it answers with the policy's mean return.
"""

import sys

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces
from rejax import PPO
from rejax.evaluate import evaluate

from benchmarks.peers import serve

GOAL, STEPS = (2, 2), 20  # 4 moves from the centre: the optimum is 17


@struct.dataclass
class State:
    position: jax.Array
    time: jax.Array


@struct.dataclass
class Params:
    max_steps_in_episode: int = STEPS


class DarkRoom(environment.Environment):
    """Dark Room after gymnax 0.0.x; observations are one-hot, as our network has them."""

    @property
    def default_params(self):
        return Params()

    def step_env(self, key, state, action, params):
        moves = jnp.array([[-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]])
        position = jnp.clip(state.position + moves[action], 0, 8)
        reward = (position == jnp.array(GOAL)).all().astype(jnp.float32)
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


def main(streams: int, updates: int) -> None:
    algorithm = PPO.create(
        env=DarkRoom(), num_envs=streams, num_steps=20, num_epochs=4, num_minibatches=1,
        learning_rate=3e-3, gamma=0.9, gae_lambda=0.95, clip_eps=0.2, ent_coef=0.02, vf_coef=0.5,
        max_grad_norm=0.5, agent_kwargs={"hidden_layer_sizes": (32,), "activation": "tanh"},
    )  # fmt: skip
    step = lambda state, _: (algorithm.train_iteration(state), None)
    train = jax.jit(lambda state: jax.lax.scan(step, state, length=updates)[0])
    box = {"state": jax.jit(algorithm.init_state)(jax.random.key(0))}

    def work():
        box["state"] = jax.block_until_ready(train(box["state"]))

    def mean_return():
        act, params = algorithm.make_act(box["state"]), algorithm.env_params
        return float(evaluate(act, jax.random.key(1), algorithm.env, params, 32, STEPS)[1].mean())

    serve({"work": work, "return": mean_return})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
