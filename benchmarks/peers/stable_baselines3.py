"""PPO of Stable-Baselines3 on one Dark Room.

    python -m benchmarks.peers.stable_baselines3 STREAMS UPDATES THREADS

Asked to "work", it trains for UPDATES more updates; asked for the "return", it answers with that of
its last episodes. Its maintainers find one thread faster for small networks, and processes slow for
light environments (its issue 121); its documentation allows custom VecEnvs, such as one that steps
all rooms at once. All of these are tried, with 1 and with THREADS threads. Freed memory is kept, as
in ours.
"""

import functools
import itertools
import sys

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3 import PPO
from stable_baselines3.common import vec_env

from benchmarks.peers import serve, tuned
from experiments.runtime.memory import keep_freed_memory

GOAL, STEPS = 2, 20  # both coordinates; 4 moves from the centre
MOVES = np.array([[-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]])
OBSERVATIONS, ACTIONS = gymnasium.spaces.MultiDiscrete([9, 9]), gymnasium.spaces.Discrete(5)


class DarkRoom(gymnasium.Env):
    """One room."""

    observation_space, action_space, render_mode = OBSERVATIONS, ACTIONS, None

    def reset(self, *, seed=None, options=None):
        self.position, self.time = np.array([4, 4]), 0
        return self.position, {}

    def step(self, action):
        self.position = np.clip(self.position + MOVES[action], 0, 8)
        self.time += 1
        reward = float((self.position == GOAL).all())
        return self.position, reward, False, self.time == STEPS, {}


class DarkRooms(vec_env.VecEnv):
    """Rooms side by side, which step at once."""

    render_mode = None

    def __init__(self, number: int):
        super().__init__(number, OBSERVATIONS, ACTIONS)

    def reset(self):
        self.position, self.time = np.full((self.num_envs, 2), 4), 0
        return self.position

    def step_async(self, actions):
        self.actions = actions

    def step_wait(self):
        self.position = np.clip(self.position + MOVES[self.actions], 0, 8)
        self.time += 1
        rewards = (self.position == GOAL).all(-1).astype(np.float32)
        infos = [{} for _ in range(self.num_envs)]
        is_last = self.time == STEPS
        if is_last:
            infos = [
                {"TimeLimit.truncated": True, "terminal_observation": x} for x in self.position
            ]
            self.reset()
        return self.position, rewards, np.full(self.num_envs, is_last), infos

    def close(self):
        pass

    def get_attr(self, attr_name, indices=None):
        return [getattr(self, attr_name)] * self.num_envs

    def set_attr(self, attr_name, value, indices=None):
        setattr(self, attr_name, value)

    def env_method(self, method_name, *args, indices=None, **kwargs):
        return [getattr(self, method_name)(*args, **kwargs)] * self.num_envs

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False] * self.num_envs


ENVIRONMENTS = {
    "DummyVecEnv": lambda number: vec_env.DummyVecEnv([DarkRoom] * number),
    # Before PyTorch's threads are used, a fork is safe, and much sooner ready.
    "SubprocVecEnv": lambda number: vec_env.SubprocVecEnv([DarkRoom] * number, "fork"),
    "a VecEnv of all rooms at once": DarkRooms,
}


def main(streams: int, updates: int, threads: int) -> None:
    learners = {
        name: PPO(
            "MlpPolicy", vec_env.VecMonitor(make(streams)), n_steps=20, batch_size=streams * 20,
            n_epochs=4, learning_rate=3e-3, gamma=0.9, gae_lambda=0.95, clip_range=0.2,
            ent_coef=0.02, vf_coef=0.5, max_grad_norm=0.5, seed=0, device="cpu",
            policy_kwargs={"net_arch": {"pi": [32], "vf": [32]}},
        ) for name, make in ENVIRONMENTS.items()
    }  # fmt: skip

    def make(updates: int, environments: str, threads: int):
        learner = learners[environments]

        def work() -> None:
            torch.set_num_threads(threads)
            learner.learn(streams * 20 * updates, reset_num_timesteps=False)

        return work

    grid = [
        dict(environments=e, threads=t)
        for e, t in itertools.product(ENVIRONMENTS, sorted({1, threads}))
    ]
    ((best, _),) = tuned(functools.partial(make, 1), grid)
    work = make(updates, **best)
    learner = learners.pop(best["environments"])
    for other in learners.values():
        other.env.close()
    last = lambda: np.mean([e["r"] for e in list(learner.ep_info_buffer)[-streams:]])
    version = f"Stable-Baselines3 {stable_baselines3.__version__}, PyTorch {torch.__version__}"
    serve(version, {"work": (best, work)}, {"return": last})


if __name__ == "__main__":
    keep_freed_memory()
    main(*map(int, sys.argv[1:]))
