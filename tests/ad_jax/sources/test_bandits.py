"""UCB's choices against a naive loop, and what UCB and Thompson sampling earn."""

import jax
import numpy as np
import pytest

from ad_jax.envs.adversarial_bandit import AdversarialBandit
from ad_jax.envs.dark_room import DarkRoom
from ad_jax.envs.linear_bandit import LinearBandit
from ad_jax.errors import UserError
from ad_jax.sources.bandits import ThompsonConfig, UCBConfig, thompson, ucb

BANDIT = AdversarialBandit(num_arms=4, max_steps_in_episode=60)
IDS = np.arange(40)


def trials(source, updates=1):
    """History [update, task, stream, time]."""

    def run(key, params):
        state = source.init(key, params)
        return jax.lax.scan(lambda s, _: source.step(s), state, length=updates)[1]

    keys = jax.random.split(jax.random.key(0), len(IDS))
    history = jax.jit(jax.vmap(run))(keys, BANDIT.tasks().params(IDS))
    return jax.tree.map(lambda x: np.swapaxes(np.asarray(x), 0, 1), history)


def test_ucb_pulls_what_the_formula_says():
    history = trials(ucb(BANDIT, UCBConfig(num_streams=2, exploration=0.5)))
    for task in range(10):
        action, reward = history.action[0, task, 1], history.reward[0, task, 1]
        assert sorted(action[:4]) == [0, 1, 2, 3]  # every arm once, in some order
        for t in range(4, 60):
            pulls = np.bincount(action[:t], minlength=4)
            wins = np.bincount(action[:t], reward[:t], minlength=4)
            bound = wins / pulls + 0.5 * np.sqrt(np.log(t + 1) / pulls)
            assert bound[action[t]] >= bound.max() - 1e-5
    assert len(np.unique(history.action[0, :, :, :4].reshape(-1, 4), axis=0)) > 10


@pytest.mark.parametrize("source", [ucb(BANDIT, UCBConfig()), thompson(BANDIT, ThompsonConfig())],
                         ids=["ucb", "thompson"])  # fmt: skip
def test_the_best_arm_is_found(source):
    history = trials(source, updates=20)
    probability = np.asarray(BANDIT.tasks().params(IDS).probability)
    best = probability.max(-1)
    earned = history.reward.mean((0, 2))  # [task, time]
    assert earned[:, 40:].mean() > 0.88 * best.mean()
    assert abs(earned[:, 0].mean() - probability.mean()) < 0.06


def test_an_informed_prior_is_that_of_the_training_tasks():
    """Oracle: the posterior after one pull of the first of three arms, worked out by hand.

    After a failure, the odd arms (1 and 3) are those that may pay with probability 0.7 / 2 against
    0.3, and then arm 3 is better than arm 1 with probability 2/3. After a success, they are it for
    certain, and arm 1 is better than arm 3 with probability 2/3.
    """
    env = AdversarialBandit(num_arms=3, max_steps_in_episode=2, usual=0.7)
    source = thompson(env, ThompsonConfig(informed=True, num_streams=100))
    ids = np.arange(400)
    run = jax.jit(jax.vmap(lambda key, one: source.step(source.init(key, one))[1]))
    history = run(jax.random.split(jax.random.key(0), len(ids)), env.tasks().params(ids))
    action, reward = (np.asarray(x).reshape(-1, 2) for x in (history.action, history.reward))
    odd = 0.35 / (0.35 + 0.3)
    for paid, want in ((0, [odd / 3, 1 - odd, odd * 2 / 3]), (1, [2 / 3, 0, 1 / 3])):
        same = (action[:, 0] == 0) & (reward[:, 0] == paid)
        found = np.bincount(action[same, 1], minlength=3) / same.sum()
        np.testing.assert_allclose(found, want, atol=0.02)


def test_every_block_is_a_trial_that_begins_with_nothing():
    history = trials(ucb(BANDIT, UCBConfig(num_streams=3)), updates=2)
    assert history.action.shape == (2, 40, 3, 60)
    np.testing.assert_array_equal(
        history.is_first, np.broadcast_to(np.arange(60) == 0, (2, 40, 3, 60))
    )
    np.testing.assert_array_equal(
        history.is_last, np.broadcast_to(np.arange(60) == 59, (2, 40, 3, 60))
    )
    assert not history.is_terminal.any()
    assert all(sorted(a[:4]) == [0, 1, 2, 3] for a in history.action[1].reshape(-1, 60))
    assert (history.action[0] != history.action[1]).any()


def test_an_environment_that_shows_something_is_refused():
    with pytest.raises(UserError, match="can't be used in DarkRoom"):
        ucb(DarkRoom(), UCBConfig())
    with pytest.raises(UserError, match=r"informed=True: DarkRoom has no draw_means"):
        thompson(DarkRoom(), ThompsonConfig(informed=True))
    with pytest.raises(UserError, match=r"informed=False: rewards of LinearBandit are not 0 or 1"):
        thompson(LinearBandit(), ThompsonConfig())
