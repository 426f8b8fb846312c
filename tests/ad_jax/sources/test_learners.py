"""What A2C and DQN have in common (for PPO see test_ppo.py), and how entropy bonuses decay."""

import jax
import numpy as np
import pytest
from learning import QUICK, check_replay, keys_of, last_returns, learn, optima

from ad_jax.envs.dark_room import DarkRoom
from ad_jax.errors import UserError
from ad_jax.sources.a2c import A2CConfig, a2c
from ad_jax.sources.dqn import DQNConfig, dqn
from ad_jax.sources.ppo import PPOConfig, ppo

ROOM = DarkRoom(size=5, max_steps_in_episode=10, start="random")
TASKS = np.arange(25)
SOURCES = {
    "a2c": (a2c(ROOM, A2CConfig(rollout_steps=15)), 150),
    "a2c in groups": (a2c(ROOM, A2CConfig(num_streams=8, num_groups=8, rollout_steps=15)), 100),
    "dqn": (dqn(ROOM, DQNConfig(num_streams=8, rollout_steps=15, epsilon_steps=600)), 100),
}


@pytest.fixture(scope="module", params=SOURCES)
def learnt(request):
    source, updates = SOURCES[request.param]
    return source, learn(source, ROOM, TASKS, updates)[1]


def test_every_goal_of_a_small_room_is_learnt(learnt):
    _, history = learnt
    optimum = optima(ROOM, TASKS)
    reached = last_returns(history, length=10, episodes=20)
    assert np.all(reached >= 0.9 * optimum), (reached / optimum).round(2)
    early = last_returns(jax.tree.map(lambda x: x[:, :, :30], history), 10, 3)
    assert early.mean() < 0.2 * optimum.mean()


def test_a_history_is_what_happened(learnt):
    _, history = learnt
    goals = np.asarray(ROOM.tasks().params(TASKS).goal)[:, None]
    check_replay(history, size=5, length=10, targets=goals, pays_again=True)


def test_a_task_alone_has_the_history_it_has_among_others(learnt):
    source, history = learnt
    block = lambda key, params: source.step(source.init(key, params))[1]
    params = jax.tree.map(lambda x: x[7], ROOM.tasks().params(TASKS))
    alone = jax.jit(block, compiler_options=QUICK)(keys_of(TASKS)[7], params)
    assert alone.action.shape == (source.num_streams, source.steps_per_update)
    among = jax.tree.map(lambda x: x[7, :, : source.steps_per_update], history)
    jax.tree.map(np.testing.assert_array_equal, alone, among)


@pytest.mark.parametrize(("make", "settings"), [(ppo, PPOConfig), (a2c, A2CConfig)])
def test_the_entropy_bonus_falls_to_its_end(make, settings):
    """The first update has the initial weight, the third one the final weight."""
    of = lambda **kwargs: make(ROOM, settings(num_streams=8, **kwargs))
    falling = of(entropy_cost=0.5, entropy_end=0.1, entropy_updates=2)
    step = lambda source, state: jax.jit(source.step, compiler_options=QUICK)(state)[0]
    alike = lambda *params: all(jax.tree.leaves(jax.tree.map(np.allclose, *params)))
    centre = jax.tree.map(lambda x: x[12], ROOM.tasks().params(TASKS))
    states = [falling.init(jax.random.key(0), centre)]
    for _ in range(3):
        states.append(step(falling, states[-1]))
    for i, weight in enumerate((0.5, 0.3, 0.1)):
        constant = step(of(entropy_cost=weight), states[i])
        assert alike(constant.params, states[i + 1].params)
    other = step(of(entropy_cost=0.1), states[1])  # not states[0]: uniform, no entropy gradient
    assert not alike(other.params, states[2].params)


def test_settings_that_do_not_fit():
    with pytest.raises(UserError, match=r"num_groups=3 does not divide the 32"):
        a2c(ROOM, A2CConfig(num_groups=3))
    with pytest.raises(UserError, match=r"replay_steps=100 is less than one rollout"):
        dqn(ROOM, DQNConfig(replay_steps=100))
    with pytest.raises(UserError, match=r"sequence_steps=30 does not fit"):
        dqn(ROOM, DQNConfig(sequence_steps=30))


def test_the_replay_is_a_ring_of_the_newest_rollouts():
    """After five rollouts into a ring of three, it holds the last three, in their places."""
    config = DQNConfig(num_streams=2, rollout_steps=10, replay_steps=60, sequence_steps=4)
    source = dqn(ROOM, config)
    params = jax.tree.map(lambda x: x[3], ROOM.tasks().params(TASKS))

    def run(key):
        state = source.init(key, params)
        return jax.lax.scan(lambda s, _: source.step(s), state, length=5)

    state, blocks = jax.jit(run, compiler_options=QUICK)(jax.random.key(0))
    assert state.replay.action.shape == (30, 2)
    for place, block in ((0, 3), (10, 4), (20, 2)):
        np.testing.assert_array_equal(
            state.replay.action[place : place + 10], blocks.action[block].T
        )
        np.testing.assert_array_equal(
            state.replay.seen[place : place + 10],
            np.swapaxes(blocks.observation[block], 0, 1),
        )


def test_exploration_follows_its_schedule():
    config = DQNConfig(num_streams=16, rollout_steps=20, epsilon_steps=200, learning_rate=0.0)
    history = learn(dqn(ROOM, config), ROOM, TASKS, 20)[1]
    # A network that does not learn is constant: its greedy action is 0.
    explored = (np.asarray(history.action) != 0).mean((0, 1)) / 0.8
    np.testing.assert_allclose(explored[:20].mean(), 0.95, atol=0.05)
    np.testing.assert_allclose(explored[90:110].mean(), 0.51, atol=0.05)
    np.testing.assert_allclose(explored[200:].mean(), 0.02, atol=0.01)
