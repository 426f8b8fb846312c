"""Windows are cut where they should be, and the same ones from memory and from disk.

The observation of every step is (row, step), and its action and reward are known functions of
them, so a window shows where it was cut.
"""

import itertools

import jax
import numpy as np
import pytest

from ad_jax.errors import UserError
from data_pipelines.reader import Histories, Selection
from data_pipelines.schema import Schema
from data_pipelines.windows import (
    DeviceWindows,
    WindowSampler,
    disk_windows,
    make_sampler,
    to_batch,
)

NUM_ACTIONS = 11
BLOCK = 16
CONTEXT = 20  # longer than a block: every window needs two or three
# Rows in their order: four of 160 steps, and between them two of 32.
LENGTHS = [160, 160, 32, 32, 160, 160]
SCHEMA = Schema(
    observation_shape=(2,),
    observation_low=(0, 0),
    observation_sizes=(len(LENGTHS), 160),
    num_actions=NUM_ACTIONS,
    reward_levels=None,
    record_steps=BLOCK,
)
steps_differ = pytest.mark.parametrize("keep_every", [1, 2, 3])


def action_of(row, step):
    return (3 * row + step) % NUM_ACTIONS


def reward_of(row, step):
    return 1000.0 * row + step + 0.5


def episode_starts(row):
    """Episodes of 3 to 9 steps; the last one is cut off by the end of the row."""
    starts = np.cumsum(np.random.default_rng(row).integers(3, 10, size=100))
    return [0, *(s for s in starts.tolist() if s < LENGTHS[row])]


def kept_steps(row, keep_every):
    """The steps of a row that windows may contain, in the order that they must have."""
    begins = episode_starts(row)
    ends = [*begins[1:], LENGTHS[row]]
    episodes = [range(b, e) for b, e in zip(begins, ends, strict=True)]
    return list(itertools.chain.from_iterable(episodes[::keep_every]))


def encoded(rows):
    """Encoded steps [task, 2 streams, steps] of some rows."""
    rows = np.array(rows).reshape(-1, 2, 1)
    step = np.arange(LENGTHS[rows.flat[0]])
    is_first = np.stack([np.isin(step, episode_starts(row)) for row in rows.flat])
    is_first = is_first.reshape(len(rows), 2, -1)
    return {
        "observation": (rows + len(LENGTHS) * step).astype(SCHEMA.observation_dtype),
        "action": action_of(rows, step).astype(np.uint8),
        "reward": reward_of(rows, step).astype(np.float32),
        "is_first": is_first,
        "is_last": np.roll(is_first, -1, -1),
        "is_terminal": np.zeros_like(is_first),
    }


@pytest.fixture(scope="module")
def histories(write_histories, tmp_path_factory):
    """Rows 0 and 1 are task 2, rows 2 and 3 task 5, rows 4 and 5 task 7."""
    shards = [([7, 2], encoded([4, 5, 0, 1])), ([5], encoded([2, 3]))]
    return Histories(write_histories(tmp_path_factory.mktemp("windows"), SCHEMA, shards))


def sampler_of(histories, keep_every, batch_size=16, context=CONTEXT, seed=0):
    return make_sampler(
        histories,
        selection=Selection(keep_every),
        context=context,
        batch_size=batch_size,
        seed=seed,
    )


def place_sampler(lengths, **kwargs):
    """A sampler of rows of one task."""
    return WindowSampler(lengths=lengths, tasks=np.zeros(len(lengths), np.int32), **kwargs)


def device_batches(histories, keep_every, steps, **kwargs):
    """Batches of the training steps, cut from memory inside jit."""
    sampler = sampler_of(histories, keep_every, **kwargs)
    windows = DeviceWindows(histories, sampler, Selection(keep_every))
    cut = jax.jit(lambda arrays, starts: to_batch(SCHEMA, windows.cut(arrays, starts)))
    return [jax.device_get(cut(windows.arrays, sampler.starts(step))) for step in steps]


def disk_batches(histories, keep_every, steps, **kwargs):
    """Batches of consecutive training steps, read from disk."""
    sampler = sampler_of(histories, keep_every, **kwargs)
    raw = disk_windows(histories, sampler, Selection(keep_every), first_step=steps[0], prefetch=3)
    batch = jax.jit(lambda raw: to_batch(SCHEMA, raw))
    return [jax.device_get(batch(next(raw))) for _ in steps]


def check_windows(batches, keep_every, context=CONTEXT):
    """Every window is a run of a row's kept steps, and its fields are those of these steps.

    Returns:
      The place (row, index among the kept steps) of every window.
    """
    places = []
    for batch in batches:
        for i in range(len(batch["action"])):
            window = {k: v[i] for k, v in batch.items()}
            rows, steps = window["observation"].T
            row = rows[0]
            assert np.all(rows == row)  # it does not cross into another row
            assert window["task"] == row // 2  # of tasks 2, 5 and 7
            kept = kept_steps(row, keep_every)
            start = kept.index(steps[0])
            assert steps.tolist() == kept[start : start + context]
            np.testing.assert_array_equal(window["action"], action_of(row, steps))
            np.testing.assert_array_equal(window["is_first"], np.isin(steps, episode_starts(row)))
            if start == 0:
                action_before, reward_before = NUM_ACTIONS, 0
            else:
                before = kept[start - 1]
                action_before, reward_before = action_of(row, before), reward_of(row, before)
            np.testing.assert_array_equal(
                window["previous_action"], [action_before, *action_of(row, steps[:-1])]
            )
            np.testing.assert_array_equal(
                window["previous_reward"], [reward_before, *reward_of(row, steps[:-1])]
            )
            places.append((int(row), start))
    return places


# Where windows begin.


def test_a_step_has_its_windows_whenever_it_is_asked_for():
    """In any order, and from any sampler with the same seed, as after resuming."""
    lengths = np.array([500, 700])
    make = lambda seed: place_sampler(lengths, context=10, batch_size=32, seed=seed)
    forwards, backwards, other_seed = make(1), make(1), make(2)
    there = [forwards.draw(step) for step in range(20)]
    back = [backwards.draw(step) for step in reversed(range(20))][::-1]
    np.testing.assert_array_equal(there, back)
    assert len(np.unique(np.reshape(there, (20, -1)), axis=0)) == 20  # all steps differ
    other = [other_seed.draw(step) for step in range(20)]
    assert np.mean(np.array(there)[:, 1] == np.array(other)[:, 1]) < 0.05


def test_starts_are_uniform():
    """Over all places where a window fits, not over rows first; each place about 60 times."""
    lengths = np.array([50, 9, 10, 23, 0, 33])
    places = {(row, start) for row in range(6) for start in range(lengths[row] - 9)}
    sampler = place_sampler(lengths, context=10, batch_size=80, seed=3)
    draws = np.concatenate([np.stack(sampler.draw(step), -1) for step in range(60)])
    found, counts = np.unique(draws, axis=0, return_counts=True)
    assert set(map(tuple, found.tolist())) == places and len(places) == 80
    chi_square = ((counts - 60) ** 2 / 60).sum()
    # 79 degrees of freedom, five standard deviations; too regular would be wrong as well.
    assert abs(chi_square - 79) < 5 * np.sqrt(2 * 79)
    # No trend from step to step: the windows of one step do not resemble those of the next.
    starts = draws[:, 1].reshape(60, 80)
    assert abs(np.corrcoef(starts[:-1].reshape(-1), starts[1:].reshape(-1))[0, 1]) < 0.06


def test_a_window_may_be_as_long_as_a_row():
    sampler = place_sampler(np.array([9, 10, 3]), context=10, batch_size=8, seed=0)
    row, start = sampler.draw(0)
    assert row.tolist() == [1] * 8 and start.tolist() == [0] * 8


def test_contexts_longer_than_the_histories_are_user_errors(histories):
    with pytest.raises(UserError, match=r"^context=11.*10 steps"):
        place_sampler(np.array([9, 10, 3]), context=11, batch_size=8, seed=0)
    with pytest.raises(UserError, match=r"context=161.*160 steps"):
        sampler_of(histories, keep_every=1, context=161)
    longest = max(len(kept_steps(row, 4)) for row in range(6))
    with pytest.raises(UserError, match=rf"^context=.*{longest} steps"):
        sampler_of(histories, keep_every=4, context=longest + 1)


def test_histories_too_long_for_an_index_are_user_errors(histories):
    """Before any of it is read."""
    sampler = place_sampler(np.array([2**30, 2**30]), context=10, batch_size=8, seed=0)
    with pytest.raises(UserError, match="disk"):
        DeviceWindows(histories, sampler, 1)


# What is in them.


@steps_differ
@pytest.mark.parametrize("batches", [device_batches, disk_batches])
def test_windows_are_runs_of_kept_steps(batches, histories, keep_every):
    places = check_windows(batches(histories, keep_every, range(12)), keep_every)
    rows = {row for row, _ in places}
    # A short row fits a window only if all of its episodes are kept.
    assert rows == ({0, 1, 2, 3, 4, 5} if keep_every == 1 else {0, 1, 4, 5})


@steps_differ
def test_memory_holds_every_kept_step_and_no_other(histories, keep_every):
    windows = DeviceWindows(histories, sampler_of(histories, keep_every), Selection(keep_every))
    held = SCHEMA.decode_observation(windows.arrays["observation"]).tolist()
    assert held == [[row, step] for row in range(6) for step in kept_steps(row, keep_every)]
    assert all(len(v) == len(held) for v in windows.arrays.values())


@steps_differ
def test_memory_and_disk_give_the_same_windows(histories, keep_every):
    """A long context fits in few places, so some windows begin at the start of their row."""
    context = 48
    from_memory, from_disk = (
        batches(histories, keep_every, range(8), context=context)
        for batches in (device_batches, disk_batches)
    )
    for a, b in zip(from_memory, from_disk, strict=True):
        assert a.keys() == b.keys()
        for k in a:
            np.testing.assert_array_equal(a[k], b[k], err_msg=k)
            shape = (16,) if k == "task" else (16, context)
            assert (a[k].dtype, a[k].shape[:2]) == (b[k].dtype, shape)
    places = check_windows(from_memory, keep_every, context)
    if keep_every == 3:
        assert 0 in {start for _, start in places}


@pytest.mark.parametrize("batches", [device_batches, disk_batches])
def test_nothing_comes_before_the_first_step(batches, histories):
    """A window fits only at the start of each row of 160 steps; other rows may precede it."""
    found = batches(histories, 1, range(2), context=160)
    assert check_windows(found, 1, 160) and {0, 5} <= {
        int(row) for batch in found for row in batch["observation"][:, 0, 0]
    }
    for batch in found:
        np.testing.assert_array_equal(batch["previous_action"][:, 0], NUM_ACTIONS)
        np.testing.assert_array_equal(batch["previous_reward"][:, 0], 0)
        assert np.all(batch["previous_action"][:, 1:] < NUM_ACTIONS)
        assert np.all(batch["is_first"][:, 0])


@pytest.mark.parametrize("keep_every", [1, 3])
def test_reading_on_from_a_step_skips_the_ones_before(histories, keep_every):
    whole = disk_batches(histories, keep_every, range(9))
    rest = disk_batches(histories, keep_every, range(6, 9))
    for a, b in zip(whole[6:], rest, strict=True):
        for k in a:
            np.testing.assert_array_equal(a[k], b[k])
    assert not np.array_equal(whole[0]["observation"], rest[0]["observation"])


def test_tasks_are_numbered_among_those_that_are_kept(histories):
    """Also if the histories hold other tasks, or not all of these."""
    select = lambda *tasks: Selection(tasks=frozenset(tasks))
    sampler = lambda *tasks: make_sampler(
        histories, selection=select(*tasks), context=CONTEXT, batch_size=64, seed=0
    )
    for tasks, numbers in (((2, 7), {0, 1}), ((7, 9, 5), {0, 1}), ((1, 7), {1})):
        assert set(sampler(*tasks).starts(0)["task"].tolist()) == numbers, tasks


def test_rewards_of_levels_are_decoded():
    """A stored reward is the index of its level, also in the step before the window."""
    schema = Schema(
        observation_shape=(), observation_low=(0,), observation_sizes=(9,), num_actions=4,
        reward_levels=(-1.0, 0.5), record_steps=8,
    )  # fmt: skip
    raw = {
        "observation": np.array([[8, 1, 2], [7, 3, 4]], np.uint8),
        "action": np.array([[0, 1, 2], [3, 2, 1]], np.uint8),
        "reward": np.array([[0, 1, 0], [1, 0, 1]], np.uint8),
        "is_first": np.array([[1, 0, 1], [0, 1, 0]], bool),
        "has_previous": np.array([True, False]),
        "task": np.array([3, 0]),
    }
    batch = jax.device_get(jax.jit(lambda raw: to_batch(schema, raw))(raw))
    assert {k: v.tolist() for k, v in batch.items()} == {
        "observation": [[1, 2], [3, 4]],
        "previous_action": [[0, 1], [4, 2]],
        "previous_reward": [[-1.0, 0.5], [0.0, -1.0]],
        "is_first": [[False, True], [True, False]],
        "action": [[1, 2], [2, 1]],
        "task": [3, 0],
    }
