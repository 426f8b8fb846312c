"""The noise curriculum: random at first, optimal at the end."""

import gymnax
import numpy as np
import pytest
from learning import check_replay, last_returns, learn, optima

from ad_jax.envs.dark_key_to_door import DarkKeyToDoor
from ad_jax.errors import UserError
from ad_jax.evaluation.bounds import random_returns
from ad_jax.sources.noise import NoiseConfig, noise

ENV = DarkKeyToDoor(size=4, max_steps_in_episode=12)
TASKS = np.arange(0, 256, 13)


def test_returns_go_from_random_to_optimal():
    source = noise(ENV, NoiseConfig(num_streams=32, rollout_steps=10, epsilon_steps=480))
    history = learn(source, ENV, TASKS, 72)[1]
    assert history.action.shape == (20, 32, 720)
    reward = np.asarray(history.reward)
    first = reward[..., :12].sum(-1).mean()
    random = random_returns(ENV, ENV.tasks().params(TASKS)).mean()
    assert abs(first - random) < 0.1
    reached = last_returns(history, length=12, episodes=15).mean()
    np.testing.assert_allclose(reached, optima(ENV, TASKS).mean(), atol=0.03)
    middle = reward[..., 240:252].sum(-1).mean()
    assert first < middle < reached
    params = ENV.tasks().params(TASKS)
    targets = np.stack([params.key, params.door], 1)
    check_replay(history, size=4, length=12, targets=targets, pays_again=False)


def test_an_environment_without_a_known_optimum_is_refused():
    with pytest.raises(UserError, match="no optimal policy is known"):
        noise(gymnax.make("CartPole-v1")[0], NoiseConfig())
