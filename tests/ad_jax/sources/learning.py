"""What the tests of sources share: learning many tasks, and replaying what happened."""

import functools

import jax
import numpy as np

from ad_jax.envs import dynamic_programming as dp

MOVES = np.array([[-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]])


def keys_of(tasks):
    return jax.random.split(jax.random.key(0), len(tasks))


# Small problems take longer to compile than to run, so compile them with little optimisation.
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
    """Replays the actions in NumPy, and compares everything else with the history.

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
