"""PPO learns, and its histories are what happened."""

import gymnax
import jax
import numpy as np
import optax
import pytest
from learning import QUICK, check_replay, keys_of, last_returns, learn, optima

from ad_jax.envs.dark_key_to_door import DarkKeyToDoor
from ad_jax.envs.dark_room import DarkRoom
from ad_jax.errors import UserError
from ad_jax.sources.ppo import PPOConfig, ppo

# A small room. Its episodes and rollouts differ in length, so that updates fall inside episodes.

ROOM = DarkRoom(size=5, max_steps_in_episode=10, start="random")
ROOM_SOURCE = ppo(ROOM, PPOConfig(rollout_steps=15))
ROOM_TASKS = np.arange(25)


@pytest.fixture(scope="module")
def room_history():
    return learn(ROOM_SOURCE, ROOM, ROOM_TASKS, updates=100)[1]


def test_every_goal_of_a_small_room_is_learnt(room_history):
    optimum = optima(ROOM, ROOM_TASKS)
    reached = last_returns(room_history, length=10, episodes=20)
    assert np.all(reached >= 0.9 * optimum), (reached / optimum).round(2)
    # It was learnt: in the first episodes, the policy knows nothing.
    early = last_returns(jax.tree.map(lambda x: x[:, :, :30], room_history), 10, 3)
    assert early.mean() < 0.2 * optimum.mean()


def test_a_room_history_is_what_happened(room_history):
    assert room_history.observation.shape == (25, 8, 1500, 2)
    assert room_history.action.shape == (25, 8, 1500)
    goals = np.asarray(ROOM.tasks().params(ROOM_TASKS).goal)[:, None]
    check_replay(room_history, size=5, length=10, targets=goals, pays_again=True)


def test_fields_have_their_types(room_history):
    dtypes = {k: str(v.dtype) for k, v in room_history.items()}
    assert dtypes == {
        "observation": "int32", "action": "int32", "reward": "float32",
        "is_first": "bool", "is_last": "bool", "is_terminal": "bool",
    }  # fmt: skip


def test_streams_and_episodes_differ(room_history):
    """Actors of a task have a random key each, for their actions and for their starts."""
    starts = room_history.observation[:, :, ::10]
    assert len(np.unique(starts[0, :, :10].reshape(8, -1), axis=0)) == 8
    assert len(np.unique(starts[0, 0], axis=0)) == 25
    # In the first block the policy is uniform and looks at nothing, so only the keys differ.
    assert len(np.unique(room_history.action[0, :, :15], axis=0)) == 8
    assert len(np.unique(room_history.action[:, 0, :15], axis=0)) == 25  # and so do tasks
    shares = np.bincount(room_history.action[:, :, :15].reshape(-1), minlength=5) / 3000
    np.testing.assert_allclose(shares, 0.2, atol=0.03)


def test_a_task_alone_has_the_history_it_has_among_others(room_history):
    block = lambda key, params: ROOM_SOURCE.step(ROOM_SOURCE.init(key, params))[1]
    run = jax.jit(block, compiler_options=QUICK)
    for task in (3, 17):
        params = jax.tree.map(lambda x, task=task: x[task], ROOM.tasks().params(ROOM_TASKS))
        alone = run(keys_of(ROOM_TASKS)[task], params)
        among = jax.tree.map(lambda x, task=task: x[task, :, :15], room_history)
        assert alone.action.shape == (ROOM_SOURCE.num_streams, ROOM_SOURCE.steps_per_update)
        jax.tree.map(np.testing.assert_array_equal, alone, among)


# This is the slow test: 81 tasks at the size of the paper, about 10 s.
def test_every_goal_of_the_full_room_is_learnt():
    env = DarkRoom()
    tasks = np.arange(81)
    _, history = learn(ppo(env, PPOConfig()), env, tasks, updates=200, options=None)
    optimum = optima(env, tasks)
    reached = last_returns(history, length=20, episodes=20)
    assert np.all(reached >= 0.9 * optimum), (reached / optimum).round(2)


# Key and door on either side of the start, and 4 steps: one to the key, then two to the door. Back
# in the middle, an agent that can't see whether it has the key must choose between the sides with
# the same probabilities as before: no such policy earns more than 1.2. With the stage in sight the
# return is 2.

DOORS = DarkKeyToDoor(size=3, max_steps_in_episode=4, start=(1, 1))
LEFT, RIGHT, TOP, BOTTOM = 3, 5, 1, 7  # cells, row by row
DOOR_TASKS = np.array(
    [key * 9 + door for key, door in [(LEFT, RIGHT), (RIGHT, LEFT), (TOP, BOTTOM), (BOTTOM, TOP)]]
)
DOOR_CONFIG = PPOConfig(
    rollout_steps=10, privileged=True, num_minibatches=5, hidden=(16,), num_epochs=3
)


@pytest.fixture(scope="module")
def doors():
    return learn(ppo(DOORS, DOOR_CONFIG), DOORS, DOOR_TASKS, updates=120)


def test_a_privileged_source_sees_the_stage(doors):
    state, history = doors
    assert history.observation.shape == (4, 8, 1200, 2)
    kernel = state.params["params"]["policy_0"]["kernel"]
    assert kernel.shape == (4, 3 + 3 + 3, 16)  # x, y and stage, one-hot; the first axis is the task
    reached = last_returns(history, length=4, episodes=20)
    assert np.all(reached >= 1.8), reached


def test_a_privileged_history_is_what_happened(doors):
    params = DOORS.tasks().params(DOOR_TASKS)
    targets = np.stack([params.key, params.door], 1)
    check_replay(doors[1], size=3, length=4, targets=targets, pays_again=False)


def test_every_minibatch_of_every_epoch_is_an_update(doors):
    """This learner has five minibatches; that it learns is checked above."""
    state, _ = doors
    is_adam = lambda part: isinstance(part, optax.ScaleByAdamState)
    [adam] = filter(is_adam, jax.tree.leaves(state.opt_state, is_leaf=is_adam))
    np.testing.assert_array_equal(adam.count, 120 * 3 * 5)


def test_minibatches_must_divide_the_rollout():
    with pytest.raises(UserError, match="num_minibatches=7"):
        ppo(ROOM, PPOConfig(num_streams=8, rollout_steps=20, num_minibatches=7))


def test_privileged_needs_something_to_see():
    env, _ = gymnax.make("CartPole-v1")
    with pytest.raises(UserError, match="privileged"):
        ppo(env, PPOConfig(privileged=True))


def test_an_environment_of_gymnax_that_terminates():
    """Float observations, and episodes that end before the time limit: is_terminal marks these."""
    env, params = gymnax.make("CartPole-v1")
    params = params.replace(max_steps_in_episode=15)
    source = ppo(env, PPOConfig(rollout_steps=60))
    block = lambda: source.step(source.init(jax.random.key(0), params))[1]
    history = jax.jit(block, compiler_options=QUICK)()
    history = jax.tree.map(np.asarray, history)
    assert history.observation.shape == (8, 60, 4) and history.observation.dtype == np.float32
    np.testing.assert_array_equal(history.is_first[:, 1:], history.is_last[:, :-1])
    assert history.is_first[:, 0].all()
    lengths, ends = [], []
    for stream in range(8):
        last = np.flatnonzero(history.is_last[stream])
        lengths.extend(np.diff(last, prepend=-1))
        ends.extend(history.is_terminal[stream, last])
    lengths, ends = np.array(lengths), np.array(ends)
    assert np.all(history.is_last >= history.is_terminal)
    assert ends.any() and not ends.all()
    assert lengths.max() == 15
    assert np.all(ends[lengths < 15]) and not np.all(ends[lengths == 15])
