"""R-max explores systematically, and each stream learns every goal from its own steps alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learning import check_replay, learn, optima

from ad_jax.envs import registry
from ad_jax.envs.dark_room import DarkRoom, DarkRoomHard
from ad_jax.errors import UserError
from ad_jax.sources.rmax import RMaxConfig, rmax

ROOM = DarkRoom(size=5, max_steps_in_episode=10, start="random")
SOURCE = rmax(ROOM, RMaxConfig(num_streams=4, rollout_steps=15))
TASKS = np.arange(25)


@pytest.fixture(scope="module")
def history():
    return learn(SOURCE, ROOM, TASKS, updates=20)[1]


def test_every_goal_of_a_small_room_is_learnt_within_a_few_episodes(history):
    returns = history.reward.reshape(25, 4, 30, 10).sum(-1).mean(1)
    reached = returns[:, -15:].mean(-1) / optima(ROOM, TASKS)  # starts are random
    assert reached.min() > 0.8 and reached.mean() > 0.93
    assert returns[:, 0].mean() < 0.5 * returns[:, -15:].mean()


def test_a_history_is_what_happened(history):
    goals = np.asarray(ROOM.tasks().params(TASKS).goal)[:, None]
    check_replay(history, size=5, length=10, targets=goals, pays_again=True)


def test_nothing_is_known_of_the_goal_before_it_was_found():
    """With one key, a stream acts alike in two tasks until it is paid; so streams share nothing."""
    env = DarkRoom()
    source = rmax(env, RMaxConfig(num_streams=8))
    params = env.tasks().params(np.array([0, 80]))
    run = lambda params: jax.lax.scan(
        lambda state, _: source.step(state), source.init(jax.random.key(3), params), length=10
    )[1]
    made = jax.jit(jax.vmap(run))(params)
    action, reward = (  # [task, stream, time]
        np.moveaxis(np.asarray(x), 1, 2).reshape(2, 8, -1) for x in (made.action, made.reward)
    )
    for stream in range(8):
        paid = np.flatnonzero(reward[:, stream].any(0))
        assert paid.size and paid[0] > 10
        np.testing.assert_array_equal(*action[:, stream, : paid[0] + 1])
        assert (action[0, stream] != action[1, stream]).any()


def test_it_seeks_cells_that_it_has_not_seen():
    """With a goal that never pays, so that it explores to the end."""
    env = DarkRoom()
    source = rmax(env, RMaxConfig(num_streams=16))
    nowhere = env.default_params.replace(goal=jnp.array([-1, -1]))
    state = source.init(jax.random.key(0), nowhere)
    history = jax.jit(lambda state: jax.lax.scan(lambda s, _: source.step(s), state, length=7)[1])(
        state
    )
    cell = np.asarray(history.observation) @ np.array([1, 9])  # [update, stream, time]
    seen = [len(np.unique(cell[:, stream])) for stream in range(16)]
    assert min(seen) >= 76  # of 81; a random walk of as many steps sees 46
    assert len(np.unique(np.asarray(history.action)[0], axis=0)) == 16  # ties are random


class Ends(DarkRoomHard):
    """An episode ends at the goal."""

    def step_env(self, key, state, action, params):
        observation, state, reward, _, info = super().step_env(key, state, action, params)
        return observation, state, reward, reward > 0, info


def test_the_end_of_an_episode_is_worth_nothing_but_a_limit_is_no_end():
    env = Ends(size=5, max_steps_in_episode=10)
    source = rmax(env, RMaxConfig(num_streams=4, rollout_steps=10))
    history = learn(source, env, np.array([0, 24, 9]), updates=30)[1]
    late = slice(-60, None)
    assert history.is_terminal[..., late].sum((1, 2)).min() > 4 * 9  # at most 7 steps apart
    np.testing.assert_array_equal(history.is_terminal, history.reward > 0)


@pytest.mark.parametrize("name", ["Watermaze", "CartPole-v1", "AdversarialBandit"])
def test_worlds_without_a_table_are_refused(name):
    env, _ = registry.make(name)
    with pytest.raises(UserError, match=r"^source.name='rmax' can't be used in .* not a table"):
        rmax(env, RMaxConfig())


def test_values_must_be_finite():
    with pytest.raises(UserError, match=r"discount=1\.0 must be below 1"):
        RMaxConfig(discount=1.0)
