"""Arms pay with the probabilities of the task, and tasks are drawn as we understand the paper."""

import jax
import numpy as np
import pytest

from ad_jax.envs.adversarial_bandit import AdversarialBandit

ENV = AdversarialBandit()
IDS = np.arange(4000)


def probabilities(distribution):
    return np.asarray(distribution.params(IDS).probability)


def test_odd_arms_usually_pay_and_no_others():
    """Arms are numbered from 1, so the first one is odd."""
    for distribution, usual in ((ENV.tasks(), 0), (ENV.tasks().shifted["even"], 1)):
        p = probabilities(distribution)
        group = np.where((p[:, usual::2] > 0).any(-1), usual, 1 - usual)
        assert abs((group == usual).mean() - 0.95) < 0.02
        for which in (0, 1):
            rows = p[group == which]
            assert (rows[:, 1 - which :: 2] == 0).all()
            good = rows[:, which::2]
            assert abs(good.mean() - 0.5) < 0.05 and good.min() < 0.05 and good.max() > 0.95


def test_no_task_is_unusual_where_all_are_usual():
    p = probabilities(AdversarialBandit(usual=1.0).tasks())
    assert (p[:, 1::2] == 0).all() and (p[:, ::2] > 0).any(-1).all()
    with pytest.raises(ValueError, match=r"usual must be a number from 0 to 1, not 1\.5"):
        AdversarialBandit(usual=1.5)


def test_uniform_bandits_pay_with_every_arm():
    p = probabilities(ENV.tasks().shifted["uniform"])
    np.testing.assert_allclose(np.quantile(p, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.02)


def test_a_task_depends_on_its_id_alone():
    some = ENV.tasks().params(np.array([7, 123456789]))
    other = ENV.tasks().params(np.array([123456789, 3, 7]))
    np.testing.assert_array_equal(some.probability, np.asarray(other.probability)[[2, 0]])
    assert not np.array_equal(
        probabilities(ENV.tasks())[:5], probabilities(ENV.tasks().shifted["even"])[:5]
    )


def test_rewards_are_drawn_with_the_arm_s_probability_and_a_trial_ends():
    params = ENV.default_params.replace(probability=np.linspace(0, 1, 10).astype(np.float32))

    def trial(key):
        def pull(carry, key):
            observation, state = carry
            observation, state, reward, terminated, truncated, _ = ENV.step(
                key, state, state.time % 10, params
            )
            return (observation, state), (reward, terminated, truncated, observation)

        key, key_reset = jax.random.split(key)
        return jax.lax.scan(pull, ENV.reset(key_reset, params), jax.random.split(key, 100))[1]

    keys = jax.random.split(jax.random.key(0), 300)
    reward, terminated, truncated, observation = jax.jit(jax.vmap(trial))(keys)
    mean = np.asarray(reward).reshape(300, 10, 10).mean((0, 1))
    np.testing.assert_allclose(mean, np.linspace(0, 1, 10), atol=0.04)
    assert not terminated.any() and not observation.any()
    np.testing.assert_array_equal(truncated, np.broadcast_to(np.arange(100) == 99, (300, 100)))


def test_bounds():
    params = ENV.default_params.replace(probability=np.linspace(0, 0.9, 10).astype(np.float32))
    np.testing.assert_allclose(ENV.optimal_return(params), 90, rtol=1e-5)
    np.testing.assert_allclose(ENV.random_return(params), 45, rtol=1e-5)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="num_arms must be a whole number, 2 or more"):
        AdversarialBandit(num_arms=1)
