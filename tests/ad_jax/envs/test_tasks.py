"""Tasks are numbered without gaps or repeats, and split without overlap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from ad_jax.envs import registry
from ad_jax.envs.dark_key_to_door import DarkKeyToDoor
from ad_jax.envs.dark_room import DarkRoom, DarkRoomHard
from ad_jax.envs.tasks import MAX_TASK_ID, TaskDistribution
from ad_jax.errors import UserError

endless = TaskDistribution(params=lambda ids: ids, num_tasks=None)
thousand = TaskDistribution(params=lambda ids: ids, num_tasks=1000)


@pytest.mark.parametrize(
    ("room", "fields", "side", "num_tasks"),
    [
        (DarkRoom, ["goal"], 9, 81),
        (DarkRoomHard, ["goal"], 17, 289),
        (DarkKeyToDoor, ["key", "door"], 9, 6561),
    ],
)
def test_every_task_is_there_once(room, fields, side, num_tasks):
    env = room()
    tasks = env.tasks()
    assert tasks.num_tasks == num_tasks
    params = tasks.params(np.arange(num_tasks))
    assert all(leaf.shape[0] == num_tasks for leaf in jax.tree.leaves(params))
    cells = np.concatenate([np.asarray(getattr(params, f)) for f in fields], -1)
    # As many distinct values as there can be, all inside the room: so all of them, each once.
    assert len(np.unique(cells, axis=0)) == num_tasks == side ** cells.shape[-1]
    assert cells.min() == 0 and cells.max() == side - 1


@pytest.mark.parametrize("room", [DarkRoom, DarkRoomHard, DarkKeyToDoor])
def test_params_depend_on_the_id_alone(room):
    tasks = room().tasks()
    some = tasks.params(np.array([70, 3, 70]))
    everything = tasks.params(np.arange(tasks.num_tasks))
    picked = jax.tree.map(lambda x: x[np.array([70, 3, 70])], everything)
    jax.tree.map(np.testing.assert_array_equal, some, picked)


def test_params_look_like_the_default_task():
    """The same shapes and dtypes, so that one compiled function works for both."""
    for room in (DarkRoom, DarkRoomHard, DarkKeyToDoor):
        env = room()
        batch = env.tasks().params(np.arange(4))
        expected = jax.tree.map(lambda x: (4, *np.shape(x)), env.default_params)
        assert jax.tree.map(np.shape, batch) == expected
        jax.tree.map(
            lambda b, d: np.testing.assert_equal(b.dtype, d.dtype), batch, env.default_params
        )


@pytest.mark.parametrize("num_heldout", [0, 1, 300, 999])
def test_split_is_disjoint_and_covers_everything(num_heldout):
    split = thousand.split(0, num_heldout, (999 - num_heldout) // 2)
    assert len(split.heldout) == num_heldout
    assert len(split.validation) == (999 - num_heldout) // 2
    assert sorted(np.concatenate(split)) == list(range(1000))
    for ids in split:
        assert ids.dtype == np.int32
        assert np.all(np.diff(ids) > 0)


@pytest.mark.parametrize("distribution", [thousand, endless])
def test_the_seed_decides_the_split(distribution):
    first, again, other = (distribution.split(seed, 50, 50, 100) for seed in (3, 3, 4))
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    # Two draws of 50 out of 1000 share 2.5 on average.
    assert len(np.intersect1d(first.heldout, other.heldout)) < 15
    assert len(np.intersect1d(first.validation, other.validation)) < 15
    assert len(np.intersect1d(first.train, other.train)) < 40


def test_heldout_tasks_are_drawn_from_everywhere():
    split = thousand.split(0, 200, 200)
    for ids in (split.heldout, split.validation):
        counts, _ = np.histogram(ids, bins=4, range=(0, 1000))
        assert counts.min() > 30


@pytest.mark.parametrize("distribution", [thousand, endless])
def test_other_tasks_do_not_depend_on_the_number_of_training_tasks(distribution):
    few, many = (distribution.split(7, 40, 30, num_train) for num_train in (5, 700))
    np.testing.assert_array_equal(few.heldout, many.heldout)
    np.testing.assert_array_equal(few.validation, many.validation)
    assert len(few.train) == 5 and len(many.train) == 700
    assert set(few.train) <= set(many.train)


@pytest.mark.parametrize("distribution", [thousand, endless])
def test_heldout_tasks_do_not_depend_on_those_for_validation(distribution):
    none, some = (distribution.split(7, 40, number, 300) for number in (0, 60))
    np.testing.assert_array_equal(none.heldout, some.heldout)
    assert len(some.validation) == 60 and set(some.validation) <= set(none.train)


def test_endless_tasks_have_distinct_ids():
    ids = np.concatenate(endless.split(1, 200, 100, 3000))
    assert len(np.unique(ids)) == 3300
    assert ids.dtype == np.int32
    assert ids.min() >= 0 and MAX_TASK_ID / 2 < ids.max() < MAX_TASK_ID


@pytest.mark.parametrize(
    "numbers",
    [
        (1000, 0, None), (1001, 0, None), (500, 0, 501), (10, 0, 0), (-1, 0, 10), (500, 500, None),
        (10, -1, 10),
    ],
)  # fmt: skip
def test_impossible_splits_are_user_errors(numbers):
    with pytest.raises(UserError, match="1000"):
        thousand.split(0, *numbers)


def test_all_tasks_can_be_asked_for():
    split = thousand.split(0, 300, 100, 600)
    assert sum(map(len, split)) == 1000


def test_endless_tasks_need_a_number():
    with pytest.raises(UserError, match="num_train"):
        endless.split(0, 10, 0)


def a_dict(self, params=None):
    return spaces.Dict({"cell": spaces.Discrete(2)})


def a_tuple(self, params=None):
    return spaces.Tuple([spaces.Discrete(2)])


def a_box(self, params=None):
    return spaces.Box(1, 3, (2,), jnp.int32)


def without_limit(self):
    return TaskDistribution(params=lambda ids: object(), num_tasks=4)


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        ("observation_space", a_dict, "Odd has observations of space Dict: only"),
        ("observation_space", a_tuple, "Odd has observations of space Tuple: only"),
        ("action_space", a_box, "Odd has actions of space Box: give Discrete"),
        ("tasks", without_limit, "the tasks of Odd have no step limit: give"),
    ],
)
def test_environments_that_nothing_can_act_in_are_refused_in_one_line(
    name, method, message, monkeypatch
):
    odd = type("Odd", (DarkRoom,), {name: method})
    monkeypatch.setitem(registry.ENVIRONMENTS, "Odd", odd)
    with pytest.raises(UserError, match=f"^{message}.*$") as error:
        registry.make("Odd")
    assert "\n" not in str(error.value)
