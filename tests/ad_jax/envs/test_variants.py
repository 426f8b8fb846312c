"""Environments of gymnax with permuted actions and flipped signs."""

import math

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ad_jax.envs import registry, variants
from ad_jax.envs.checker import check_env
from ad_jax.envs.variants import Variants, _permutation
from ad_jax.errors import UserError

CONTINUOUS = (
    "Pendulum-v1", "MountainCarContinuous-v0", "PointRobot-misc", "Reacher-misc", "Swimmer-misc",
)  # fmt: skip
DOWNLOADS = ("MNISTBandit-bsuite",)
QUICK = (
    "CartPole-v1", "Acrobot-v1", "MountainCar-v0", "Catch-bsuite", "DeepSea-bsuite",
    "FrozenLake-misc", "FourRooms-misc", "SimpleBandit-bsuite", "GaussianBandit-misc",
)  # fmt: skip
SLOW = tuple(n for n in gymnax.registered_envs if n not in (*QUICK, *CONTINUOUS, *DOWNLOADS))


def check(name):
    env, tasks = registry.make(name, max_steps_in_episode=8)
    check_env(env, tasks)


@pytest.mark.parametrize("name", QUICK)
def test_an_id_alone_is_a_world_without_fault(name):
    check(name)


@pytest.mark.parametrize("name", SLOW)
def test_every_other_id_too(name):
    check(name)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_those_with_continuous_actions_too(name):
    check(name)


def test_what_gymnax_can_not_make_is_one_clear_line():
    with pytest.raises(UserError, match=r"^NoSuchThing-v9 can't be made by gymnax"):
        Variants("NoSuchThing-v9")


@pytest.mark.parametrize("name", ["CartPole-v1", "Acrobot-v1", "FrozenLake-misc"])
def test_a_task_is_the_environment_with_other_buttons_and_signs(name):
    """Oracle: gymnax's own steps, with actions and observations changed by hand."""
    env, tasks = registry.make(name)
    inner, inner_params = gymnax.make(name)
    ids = np.array([0, tasks.num_tasks // 2 + 1, tasks.num_tasks - 1], np.int32)
    batch = tasks.params(ids)
    assert (batch.actions[0] == jnp.arange(env.num_actions)).all() and (batch.signs[0] == 1).all()
    assert (batch.actions[2] == jnp.arange(env.num_actions)[::-1]).all()
    for i in range(3):
        params = jax.tree.map(lambda x, i=i: x[i], batch)
        key = jax.random.key(i)
        seen, state = env.reset(key, params)
        expected, inner_state = inner.reset(key, inner_params)
        rng = np.random.default_rng(i)
        for step in range(12):
            signs = params.signs if params.signs.size else 1
            np.testing.assert_allclose(seen, expected * signs, rtol=1e-6)
            action, key = int(rng.integers(env.num_actions)), jax.random.key(100 + step)
            seen, state, reward, terminated, _, _ = env.step(key, state, action, params)
            expected, inner_state, value, ended, _, _ = inner.step(
                key, inner_state, int(params.actions[action]), inner_params
            )
            assert float(reward) == float(value) and bool(terminated) == bool(ended)


def test_tasks_are_all_different():
    _, tasks = registry.make("CartPole-v1")
    assert tasks.num_tasks == math.factorial(2) * 2**4
    params = tasks.params(np.arange(tasks.num_tasks))
    rows = np.concatenate([params.actions, params.signs], 1)
    assert len(np.unique(rows, axis=0)) == tasks.num_tasks
    train, _, heldout = tasks.split(0, 8)
    assert not set(train) & set(heldout)


def test_permutations_are_counted():
    found = {tuple(_permutation(i, 4)) for i in range(24)}
    assert len(found) == 24 and tuple(_permutation(0, 4)) == (0, 1, 2, 3)


def test_more_variants_than_can_be_counted_are_drawn(monkeypatch):
    assert Variants("SimpleBandit-bsuite").tasks().num_tasks == math.factorial(11)
    monkeypatch.setattr(variants, "MAX_TASK_ID", 1000)
    tasks = Variants("MetaMaze-misc").tasks()
    assert tasks.num_tasks is None
    a, b = tasks.params(np.array([1, 1])), tasks.params(np.array([2, 3]))
    assert (a.signs[0] == a.signs[1]).all() and (b.signs[0] != b.signs[1]).any()
    assert (np.sort(b.actions) == np.arange(4)).all()


def test_limits_are_checked():
    assert registry.make("CartPole-v1", max_steps_in_episode=20)[0].max_steps_in_episode == 20
    for steps in (0, 501):
        with pytest.raises(UserError, match="CartPole-v1 allows 1 to 500"):
            registry.make("CartPole-v1", max_steps_in_episode=steps)
