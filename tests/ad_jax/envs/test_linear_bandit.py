"""Rewards are linear in the features, and what is known of a task follows from the pulls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ad_jax.envs.linear_bandit import LinearBandit

ENV = LinearBandit(num_arms=4, dimensions=2, noise=0.5, max_steps_in_episode=20)


def test_rewards_have_the_mean_of_the_arm_and_a_trial_ends():
    params = ENV.default_params.replace(weights=jnp.array([1.0, -2.0]))
    step = lambda key, action: ENV.step(key, ENV.reset(key, params)[1], action, params)[2]
    keys = jax.random.split(jax.random.key(0), 20_000)
    for action in range(4):
        reward = jax.vmap(step, (0, None))(keys, action)
        np.testing.assert_allclose(reward.mean(), ENV.features[action] @ [1, -2], atol=0.02)
        np.testing.assert_allclose(reward.std(), 0.5, atol=0.01)
    _, state = ENV.reset(keys[0], params)
    for time in range(20):
        observation, state, _, terminated, truncated, _ = ENV.step(keys[time], state, 0, params)
        assert observation == 0 and not terminated and truncated == (time == 19)


def test_the_features_are_the_same_in_all_tasks_and_programs():
    np.testing.assert_array_equal(LinearBandit(4, 2).features, ENV.features)
    np.testing.assert_allclose(np.linalg.norm(ENV.features, axis=-1), 1, rtol=1e-6)
    weights = ENV.tasks().params(np.arange(4000)).weights
    np.testing.assert_allclose(np.cov(np.asarray(weights).T), np.eye(2), atol=0.1)


def test_what_is_known_follows_from_the_pulls():
    """Oracle: weighted draws from the prior, by how probable the rewards are with each."""
    action, reward = np.array([0, 2, 0, 1]), np.array([0.9, -0.3, 1.4, 0.2])
    prior = np.random.default_rng(0).normal(size=(400_000, 2))
    means = prior @ ENV.features.T
    weight = np.exp(-0.5 * (((means[:, action] - reward) / ENV.noise) ** 2).sum(-1))
    mean = np.average(means, weights=weight, axis=0)
    spread = np.sqrt(np.average((means - mean) ** 2, weights=weight, axis=0))

    pulls = jnp.asarray(np.bincount(action, minlength=4), jnp.float32)
    rewards = jnp.asarray(np.bincount(action, reward, minlength=4), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = jax.vmap(ENV.draw_means, (0, None, None))(keys, pulls, rewards)
    np.testing.assert_allclose(drawn.mean(0), mean, atol=0.02)
    np.testing.assert_allclose(drawn.std(0), spread, atol=0.02)


def test_bounds():
    params = ENV.tasks().params(np.arange(5))
    means = np.asarray(params.weights) @ ENV.features.T
    np.testing.assert_allclose(ENV.optimal_return(params), 20 * means.max(-1), rtol=1e-5)
    np.testing.assert_allclose(ENV.random_return(params), 20 * means.mean(-1), rtol=1e-4)
    best = jax.vmap(lambda one: ENV.expert_action(0, one))(params)
    np.testing.assert_array_equal(best, means.argmax(-1))


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="dimensions must be a whole number, 1 or more"):
        LinearBandit(dimensions=0)
    with pytest.raises(ValueError, match="noise must be a number above 0, not 0"):
        LinearBandit(noise=0)
