"""Returns of other policies: exact where possible, and close where they are sampled."""

import gymnax
import jax
import numpy as np

from ad_jax.envs.adversarial_bandit import AdversarialBandit
from ad_jax.envs.dark_room import DarkRoom
from ad_jax.evaluation import bounds
from ad_jax.sources.bandits import UCBConfig, ucb


def test_grid_worlds_have_exact_bounds():
    env = DarkRoom()
    params = env.tasks().params(np.arange(81))
    np.testing.assert_allclose(bounds.optimal_returns(env, params).mean(), 16.54, atol=0.01)
    np.testing.assert_allclose(bounds.random_returns(env, params).mean(), 0.25, atol=0.01)


def test_an_environment_may_know_its_own():
    env = AdversarialBandit()
    params = env.tasks().params(np.arange(5))
    best, mean = np.asarray(params.probability).max(-1), np.asarray(params.probability).mean(-1)
    np.testing.assert_allclose(bounds.optimal_returns(env, params), 100 * best, rtol=1e-5)
    np.testing.assert_allclose(bounds.random_returns(env, params), 100 * mean, rtol=1e-5)


def test_others_are_sampled_or_unknown():
    env, params = gymnax.make("CartPole-v1")
    params = jax.tree.map(lambda x: np.full(30, x), params.replace(max_steps_in_episode=50))
    assert bounds.optimal_returns(env, params) is None
    returns = bounds.random_returns(env, params)
    assert returns.shape == (30,) and 18 < returns.mean() < 26  # about 22 steps


def test_the_source_from_scratch():
    env = AdversarialBandit(num_arms=3, max_steps_in_episode=40)
    params = env.tasks().params(np.arange(30))
    reward = bounds.source_rewards(ucb(env, UCBConfig(num_streams=4)), jax.random.key(0), params, 8)
    probability = np.asarray(params.probability)
    assert reward.shape == (30, 40)
    # Every arm once, in random order; later pulls earn more.
    np.testing.assert_allclose(reward[:, :3].mean(), probability.mean(), atol=0.05)
    assert reward[:, 20:].mean() > 0.85 * probability.max(-1).mean()
