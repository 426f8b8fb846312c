"""PPO learns, and its histories are what happened."""

import functools

import gymnax
import jax
import numpy as np
import optax
import pytest

from ad_jax.envs import dynamic_programming as dp
from ad_jax.envs.dark_key_to_door import DarkKeyToDoor
from ad_jax.envs.dark_room import DarkRoom
from ad_jax.errors import UserError
from ad_jax.sources.ppo import PPOConfig, generalised_advantages, ppo

MOVES = np.array([[-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]])


def keys_of(tasks):
    return jax.random.split(jax.random.key(0), len(tasks))


# Small problems take longer to compile than to run: that is turned round.
QUICK = {"xla_backend_optimization_level": 0}


def learn(source, env, tasks, updates, options=QUICK):
    """(last state, history [task, stream, time]) of tasks side by side, in one jitted scan."""

    @functools.partial(jax.jit, compiler_options=options)
    def run(keys, params):
        state = jax.vmap(source.init)(keys, params)
        step = jax.vmap(source.step)
        return jax.lax.scan(lambda state, _: step(state), state, length=updates)

    state, blocks = run(keys_of(tasks), env.tasks().params(tasks))

    def join(x):  # [update, task, stream, time, ...] → [task, stream, update * time, ...]
        x = np.moveaxis(x, 0, 2)
        return x.reshape(*x.shape[:2], -1, *x.shape[4:])

    return state, jax.tree.map(join, blocks)


def last_returns(history, length, episodes):
    """Mean return of the last episodes of each task, over its streams; [task]."""
    reward = np.asarray(history.reward)
    whole = reward.shape[-1] // length * length
    returns = reward[..., :whole].reshape(*reward.shape[:2], -1, length).sum(-1)
    return returns[..., -episodes:].mean((1, 2))


def optima(env, tasks):
    optimum = functools.partial(dp.optimal_return, env)
    return np.asarray(jax.jit(jax.vmap(optimum))(env.tasks().params(tasks)))


def check_replay(history, *, size, length, targets, pays_again):
    """Plays the actions again, in numpy, and compares everything else with the history.

    Args:
      history: [task, stream, time].
      size, length: of the room and of an episode.
      targets: [task, n, 2], the cells that pay, one after the other.
      pays_again: whether the first target pays on every step, as in Dark Room.
    """
    history = jax.tree.map(np.asarray, history)
    tasks, streams, steps = history.action.shape
    task = np.arange(tasks)[:, None]
    progress = np.zeros((tasks, streams), int)
    nowhere = np.full((tasks, 1, 2), -1)
    targets = np.concatenate([targets, nowhere], 1)
    clock = 0
    position = None
    for t in range(steps):
        np.testing.assert_array_equal(history.is_first[..., t], clock == 0)
        if clock == 0:
            position, progress[:] = history.observation[:, :, t], 0
        np.testing.assert_array_equal(history.observation[:, :, t], position)
        position = np.clip(position + MOVES[history.action[..., t]], 0, size - 1)
        paid = np.all(position == targets[task, progress], -1)
        np.testing.assert_array_equal(history.reward[..., t], paid)
        if not pays_again:
            progress += paid
        clock = (clock + 1) % length
        np.testing.assert_array_equal(history.is_last[..., t], clock == 0)
    assert not np.any(history.is_terminal)


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
    # It was learnt: the first episodes are those of a policy that knows nothing.
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
        assert alone.action.shape == (ROOM_SOURCE.num_streams, ROOM_SOURCE.steps_per_block)
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
    """The learning itself is checked above: this learner cuts its rollouts into five."""
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
    """Float observations, and ends that are not the time limit's: is_terminal says which."""
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


# Generalised advantage estimation.


def naive_advantages(reward, value, next_value, is_last, is_terminal, discount, lam):
    """The sum of (γλ)^k δ_{t+k} up to the end of the episode, written out (equation 16)."""
    steps = len(reward)
    bootstrapped = [0.0 if is_terminal[t] else next_value[t] for t in range(steps)]
    delta = [reward[t] + discount * bootstrapped[t] - value[t] for t in range(steps)]
    advantages = []
    for t in range(steps):
        total = 0.0
        for k in range(steps - t):
            total += (discount * lam) ** k * delta[t + k]
            if is_last[t + k]:
                break
        advantages.append(total)
    return advantages


def test_advantages_equal_a_naive_loop():
    rng = np.random.default_rng(0)
    reward, value, next_value = rng.normal(size=(3, 40, 6)).astype(np.float32)
    is_last = rng.random((40, 6)) < 0.2
    is_terminal = is_last & (rng.random((40, 6)) < 0.5)
    inputs = (reward, value, next_value, is_last, is_terminal)
    got = generalised_advantages(*inputs, 0.9, 0.8)
    expected = np.stack(
        [naive_advantages(*(x[:, i] for x in inputs), 0.9, 0.8) for i in range(6)], 1
    )
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert np.any(is_terminal) and np.any(is_last & ~is_terminal)


@pytest.mark.parametrize(
    ("is_last", "is_terminal", "expected"),
    [
        # δ = (1 + 0.5·4 − 2, 1 + 0.5·6 − 4) = (1, 0) where all is bootstrapped from; γλ = 0.25.
        ((False, False), (False, False), (1.0, 0.0)),
        ((True, False), (False, False), (1.0, 0.0)),  # a time limit
        ((True, False), (True, False), (-1.0, 0.0)),  # an end
        ((False, True), (False, True), (1.0 - 0.75, -3.0)),
    ],
)
def test_time_limits_are_bootstrapped_from_and_ends_are_not(is_last, is_terminal, expected):
    got = generalised_advantages(
        np.float32([1, 1]), np.float32([2, 4]), np.float32([4, 6]),
        np.array(is_last), np.array(is_terminal), 0.5, 0.5,
    )  # fmt: skip
    np.testing.assert_allclose(got, expected, rtol=1e-6)
