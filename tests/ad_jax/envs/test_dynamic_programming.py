"""Exact returns: the known means of the paper's rooms, and brute force in tiny ones."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ad_jax.envs import dynamic_programming as dp
from ad_jax.envs.dark_key_to_door import DarkKeyToDoor
from ad_jax.envs.dark_room import DarkRoom, DarkRoomHard

ROOMS = (DarkRoom, DarkRoomHard, DarkKeyToDoor)


def per_task(function, env, every=1):
    """``function(env, params)`` for each task, a few at a time to bound memory."""
    tasks = env.tasks()
    params = tasks.params(np.arange(0, tasks.num_tasks, every))
    return np.asarray(
        jax.jit(lambda p: jax.lax.map(functools.partial(function, env), p, batch_size=128))(params)
    )


@pytest.mark.parametrize(
    ("room", "optimal", "random"),
    [
        # The optimum of Dark Room: from the centre, a goal at distance d > 0 pays in 21 - d of the
        # 20 steps, the centre itself in all 20; the sum over the 81 goals is 1340.
        (DarkRoom, 1340 / 81, 0.247),
        (DarkRoomHard, 1.0, 0.0373),
    ],
)
def test_means_of_the_dark_rooms(room, optimal, random):
    env = room()
    assert per_task(dp.optimal_return, env).mean() == pytest.approx(optimal, abs=1e-4)
    assert per_task(dp.random_return, env).mean() == pytest.approx(random, rel=2e-3)


def test_means_of_key_to_door():
    env = DarkKeyToDoor()
    np.testing.assert_allclose(per_task(dp.optimal_return, env, every=7), 2.0, rtol=1e-5)
    assert per_task(dp.random_return, env).mean() == pytest.approx(0.2513, abs=5e-5)


# An oracle that shares no code with the rooms: every sequence of actions is played in plain numpy.

SIZE, STEPS = 3, 4
SEQUENCES = np.array(list(itertools.product(range(5), repeat=STEPS)))
DX = np.array([-1, 1, 0, 0, 0])
DY = np.array([0, 0, -1, 1, 0])


def returns_of_all_sequences(room, start, targets):
    """Returns [sequences]; ``targets`` are the cells that pay, in this order."""
    x, y = (np.full(len(SEQUENCES), c) for c in start)
    progress = np.zeros(len(SEQUENCES), int)
    total = np.zeros(len(SEQUENCES))
    targets = np.array([*targets, (-1, -1)])  # nowhere, once all have paid
    for action in SEQUENCES.T:
        x = np.minimum(np.maximum(x + DX[action], 0), SIZE - 1)
        y = np.minimum(np.maximum(y + DY[action], 0), SIZE - 1)
        paid = (x == targets[progress, 0]) & (y == targets[progress, 1])
        total += paid
        if room is not DarkRoom:  # in Dark Room the same goal pays on every step
            progress += paid
    return total


CELLS = [(x, y) for y in range(SIZE) for x in range(SIZE)]


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("start", [(1, 1), (0, 2), "random"])
def test_brute_force_agrees(room, start):
    env = room(size=SIZE, max_steps_in_episode=STEPS, start=start)
    if room is DarkKeyToDoor:
        tasks = [(key, door) for key in CELLS for door in CELLS]
    else:
        tasks = [(goal,) for goal in CELLS]
    assert env.tasks().num_tasks == len(tasks)
    starts = CELLS if start == "random" else [start]
    returns = np.array(
        [[returns_of_all_sequences(room, s, targets) for s in starts] for targets in tasks]
    )
    # The agent can't choose the start: take the best sequence for each start, then the mean.
    np.testing.assert_allclose(
        per_task(dp.optimal_return, env), returns.max(-1).mean(-1), rtol=1e-5
    )
    np.testing.assert_allclose(
        per_task(dp.random_return, env), returns.mean((-1, -2)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("env", "ids"),
    [
        (DarkRoom(), np.arange(81)),
        (DarkRoom(start="random"), np.arange(0, 81, 5)),
        (DarkRoomHard(), np.arange(0, 289, 12)),
        (DarkRoomHard(max_steps_in_episode=10), np.arange(0, 289, 12)),  # not all are in reach
        (DarkKeyToDoor(), np.arange(0, 6561, 400)),
        (DarkKeyToDoor(max_steps_in_episode=12), np.arange(0, 6561, 400)),
    ],
    ids=lambda v: v.name if hasattr(v, "name") else "",
)
def test_the_optimal_policy_attains_the_optimum(env, ids):
    """Oracle: acting by it through ``env.step`` earns exactly the promised return."""
    cells = np.flatnonzero(env.start_distribution())
    starts = jax.tree.map(lambda x: jnp.asarray(x[cells]), env.all_states())

    def episode(params, policy, state):
        def step(state, action_S):
            action = action_S[env.state_index(state)]
            _, state, reward, _, truncated, _ = env.step(jax.random.key(0), state, action, params)
            return state, (reward, truncated)

        _, (reward, truncated) = jax.lax.scan(step, state, policy)
        return reward.sum(), truncated

    def mean_return(params):
        policy = dp.optimal_policy(env, params)
        total, truncated = jax.vmap(episode, in_axes=(None, None, 0))(params, policy, starts)
        return total.mean(), truncated, dp.optimal_return(env, params)

    attained, truncated, promised = jax.jit(jax.vmap(mean_return))(env.tasks().params(ids))
    np.testing.assert_allclose(attained, promised, rtol=1e-5)
    assert np.any(promised > 0)
    # The policy has one entry per step of exactly one episode.
    assert np.all(truncated[..., -1]) and not np.any(truncated[..., :-1])


def test_rewards_that_are_given_once_come_as_soon_as_possible():
    """Oracle: the distances from the start to the key, and from the key to the door."""
    env = DarkKeyToDoor(size=5, max_steps_in_episode=30)
    ids = np.arange(0, 625, 7)
    params = env.tasks().params(ids)

    def times(params):
        policy = dp.optimal_policy(env, params)
        state = jax.tree.map(lambda x: jnp.asarray(x[12]), env.all_states())  # the centre

        def step(state, action_S):
            action = action_S[env.state_index(state)]
            return env.step_env(jax.random.key(0), state, action, params)[1:3]

        return jax.lax.scan(step, state, policy)[1]

    reward = np.asarray(jax.vmap(times)(params))
    distance = lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).sum(-1)
    to_key = np.maximum(distance(params.key, [2, 2]), 1)  # to stay there is a step, too
    there = to_key + np.maximum(distance(params.key, params.door), 1)
    for row, times in zip(reward, np.stack([to_key, there], 1), strict=True):
        found = np.repeat(np.arange(1, 31), row.astype(int))
        np.testing.assert_array_equal(found, times)


def test_a_task_may_be_shorter_than_the_environment_allows():
    """Oracle: an environment with that step limit. Tasks with different limits form one batch."""
    long, lengths = DarkRoom(size=3, max_steps_in_episode=6), np.array([6, 4, 1], np.int32)
    tasks = long.tasks().params(np.array([8, 8, 8])).replace(max_steps_in_episode=lengths)
    for function in (dp.optimal_return, dp.random_return, lambda *x: dp.noisy_return(*x, 0.3)):
        got = jax.vmap(functools.partial(function, long))(tasks)
        for i, steps in enumerate(lengths.tolist()):
            short = DarkRoom(size=3, max_steps_in_episode=steps)
            params = jax.tree.map(lambda x: x[0], short.tasks().params(np.array([8])))
            np.testing.assert_allclose(got[i], function(short, params), rtol=1e-6)
    assert dp.optimal_return(long, jax.tree.map(lambda x: x[1], tasks)) == 3  # of 4 steps
