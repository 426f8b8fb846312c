"""The dark rooms follow the paper, and the interface of gymnax 1.0.1."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import environment

from ad_jax.envs import registry
from ad_jax.envs.dark_key_to_door import DarkKeyToDoor
from ad_jax.envs.dark_room import DarkRoom, DarkRoomHard
from ad_jax.envs.tasks import TaskDistribution
from ad_jax.errors import UserError

LEFT, RIGHT, UP, DOWN, STAY = range(5)
ROOMS = (DarkRoom, DarkRoomHard, DarkKeyToDoor)
all_rooms = pytest.mark.parametrize("room", ROOMS)


@functools.cache
def build(room, **kwargs):
    """An environment; the same one for the same arguments, so that it is compiled only once."""
    return room(**kwargs)


def task(env, task_id):
    """The parameters of one task."""
    return jax.tree.map(lambda x: np.asarray(x)[0], env.tasks().params(np.array([task_id])))


def key_and_door(env, key, door):
    return env.default_params.replace(key=jnp.array(key), door=jnp.array(door))


def step_keys(seed):
    """Keys for a reset and for up to 99 steps after it."""
    return jax.random.split(jax.random.key(seed), 100)


def walk(env, params, actions, seed=0):
    """Resets, then takes the actions one by one: (first observation, what step returned)."""
    keys = step_keys(seed)
    observation, state = env.reset(keys[0], params)
    steps = []
    for t, action in enumerate(actions):
        returned = env.step(keys[t + 1], state, int(action), params)
        state = returned[1]
        steps.append(returned)
    return np.asarray(observation), steps


def rewards(env, params, actions):
    return [float(step[2]) for step in walk(env, params, actions)[1]]


@all_rooms
def test_step_returns_the_six_values_of_gymnax(room):
    env = build(room)
    assert isinstance(env, environment.Environment)
    _, [(observation, state, reward, terminated, truncated, info)] = walk(
        env, env.default_params, [STAY]
    )
    assert (observation.shape, observation.dtype) == ((2,), jnp.int32)
    assert (reward.shape, reward.dtype) == ((), jnp.float32)
    assert (terminated.shape, terminated.dtype) == ((), jnp.bool_)
    assert (truncated.shape, truncated.dtype) == ((), jnp.bool_)
    assert int(state.time) == 1
    assert {"terminated", "truncated", "final_observation", "privileged_observation"} == set(info)


@all_rooms
def test_episodes_are_truncated_at_the_limit_and_never_terminate(room):
    env = build(room, size=3, max_steps_in_episode=6)
    _, steps = walk(env, env.default_params, [RIGHT] * 20)
    truncated = [bool(step[4]) for step in steps]
    assert truncated == [(t + 1) % 6 == 0 for t in range(20)]
    assert not any(bool(step[3]) for step in steps)


@pytest.mark.parametrize(
    ("room", "limit"), [(DarkRoom, 20), (DarkRoomHard, 20), (DarkKeyToDoor, 50)]
)
def test_default_episode_length(room, limit):
    env = build(room)
    _, steps = walk(env, task(env, 5), [STAY] * limit)
    assert [bool(step[4]) for step in steps] == [False] * (limit - 1) + [True]


@all_rooms
def test_after_the_end_the_observation_is_of_the_next_episode(room):
    env = build(room, size=5, max_steps_in_episode=4, start=(2, 1))
    _, steps = walk(env, env.default_params, [RIGHT, DOWN, DOWN, RIGHT, LEFT])
    observations = [step[0].tolist() for step in steps]
    final = [step[5]["final_observation"].tolist() for step in steps]
    assert observations == [[3, 1], [3, 2], [3, 3], [2, 1], [1, 1]]
    assert final == [[3, 1], [3, 2], [3, 3], [4, 3], [1, 1]]
    assert [int(step[1].time) for step in steps] == [1, 2, 3, 0, 1]


def test_privileged_observation_of_the_last_step_is_of_the_episode_that_ended():
    env = build(DarkRoomHard, size=5, max_steps_in_episode=2)
    params = env.default_params.replace(goal=jnp.array([4, 2]))
    _, steps = walk(env, params, [RIGHT, RIGHT, STAY])
    privileged = [step[5]["privileged_observation"].tolist() for step in steps]
    assert privileged == [[3, 2, 0], [4, 2, 1], [2, 2, 0]]


@all_rooms
def test_batches_of_tasks_and_keys_equal_single_steps(room):
    """Oracle: one environment, step by step. The batch is jitted, under two vmaps."""
    env = build(room, size=3, max_steps_in_episode=5, start="random")
    ids, seeds = np.array([0, 4, 7]), [0, 1]
    actions = np.random.default_rng(0).integers(5, size=13)

    def rollout(keys, params):
        observation, state = env.reset(keys[0], params)

        def step(state, key_and_action):
            key, action = key_and_action
            returned = env.step(key, state, action, params)
            return returned[1], returned

        return observation, jax.lax.scan(step, state, (keys[1:14], actions))[1]

    over_keys = jax.vmap(rollout, in_axes=(0, None))
    over_both = jax.jit(jax.vmap(over_keys, in_axes=(None, 0)))
    keys = jnp.stack([step_keys(seed) for seed in seeds])
    batched = jax.device_get(over_both(keys, env.tasks().params(ids)))
    for i, task_id in enumerate(ids):
        for j, seed in enumerate(seeds):
            first, steps = walk(env, task(env, task_id), actions, seed)
            alone = first, jax.tree.map(lambda *x: np.stack(x), *steps)
            this = jax.tree.map(lambda x, i=i, j=j: x[i, j], batched)
            jax.tree.map(np.testing.assert_array_equal, this, alone)


@all_rooms
def test_observations_lie_in_their_spaces_and_reach_their_bounds(room):
    env = build(room, size=3, max_steps_in_episode=30)
    params = task(env, 4)
    space, privileged_space = (
        env.observation_space(params),
        env.privileged_observation_space(params),
    )
    actions = np.random.default_rng(1).integers(5, size=99)
    first, steps = walk(env, params, actions)
    seen = np.stack([first, *(step[0] for step in steps)])
    privileged = np.stack([step[5]["privileged_observation"] for step in steps])
    states = jax.tree.map(lambda *x: np.stack(x), *(step[1] for step in steps))
    assert seen.shape[1:] == space.shape and seen.dtype == space.dtype
    assert privileged.shape[1:] == privileged_space.shape
    assert privileged.dtype == privileged_space.dtype
    assert np.all(jax.vmap(space.contains)(seen))
    assert np.all(jax.vmap(privileged_space.contains)(privileged))
    assert np.all(jax.vmap(env.state_space(params).contains)(states))
    assert env.num_actions == env.action_space(params).n == 5
    # The bounds are tight: every value of every component shows up.
    assert np.min(seen, 0).tolist() == [0, 0] and np.max(seen, 0).tolist() == [2, 2]
    np.testing.assert_array_equal(np.min(privileged, 0), privileged_space.low)
    np.testing.assert_array_equal(np.max(privileged, 0), privileged_space.high)


@all_rooms
@pytest.mark.parametrize(
    ("action", "inside"),
    [(LEFT, (1, 2)), (RIGHT, (3, 2)), (UP, (2, 1)), (DOWN, (2, 3)), (STAY, (2, 2))],
)
def test_moves(room, action, inside):
    env = build(room, size=5, start=(2, 2))
    _, [step] = walk(env, env.default_params, [action])
    assert tuple(step[0].tolist()) == inside


@pytest.mark.parametrize(("sideways", "x"), [(LEFT, 0), (RIGHT, 4)])
@pytest.mark.parametrize(("upwards", "y"), [(UP, 0), (DOWN, 4)])
def test_walls_hold(sideways, x, upwards, y):
    env = build(DarkRoom, size=5)
    _, steps = walk(env, env.default_params, [sideways] * 4 + [upwards] * 4 + [sideways, upwards])
    cells = [tuple(step[0].tolist()) for step in steps]
    assert cells[1:4] == [(x, 2)] * 3  # against one wall
    assert cells[5:] == [(x, y)] * 5  # and in the corner


@pytest.mark.parametrize(
    ("env", "centre"),
    [(DarkRoom(), [4, 4]), (DarkRoomHard(), [8, 8]), (DarkRoom(size=4), [2, 2])],
)
def test_dark_rooms_start_in_the_centre(env, centre):
    for seed in range(3):
        observation, _ = env.reset(jax.random.key(seed), env.default_params)
        assert observation.tolist() == centre


def test_key_to_door_starts_anywhere():
    env = build(DarkKeyToDoor)
    keys = jax.random.split(jax.random.key(0), 1000)
    observation, state = jax.vmap(env.reset, in_axes=(0, None))(keys, env.default_params)
    np.testing.assert_array_equal(observation, state.position)
    assert len({tuple(cell) for cell in observation.tolist()}) == 81
    assert not np.any(state.stage) and not np.any(state.time)


def test_key_to_door_starts_anew_every_episode():
    """Also where ``step`` resets by itself, with keys of its own."""
    env = build(DarkKeyToDoor, max_steps_in_episode=1)
    _, steps = walk(env, env.default_params, [STAY] * 40)
    starts = [tuple(step[0].tolist()) for step in steps]
    assert len(set(starts)) > 20
    # The agent stayed, so each episode ended where the one before it, not this one, began.
    final = [tuple(step[5]["final_observation"].tolist()) for step in steps]
    assert final[1:] == starts[:-1]


def test_dark_room_pays_on_every_step_at_the_goal():
    env = build(DarkRoom)
    params = env.default_params.replace(goal=jnp.array([5, 4]))
    assert rewards(env, params, [STAY, RIGHT, STAY, LEFT, RIGHT, STAY]) == [0, 1, 1, 0, 1, 1]


def test_dark_room_hard_pays_once_per_episode():
    env = build(DarkRoomHard, max_steps_in_episode=4)
    params = env.default_params.replace(goal=jnp.array([9, 8]))
    actions = [RIGHT, STAY, LEFT, RIGHT]
    assert rewards(env, params, actions * 2 + [STAY, RIGHT]) == [1, 0, 0, 0] * 2 + [0, 1]


def test_key_to_door_pays_the_key_once_and_then_the_door_once():
    env = build(DarkKeyToDoor, max_steps_in_episode=6, start=(0, 0))
    params = key_and_door(env, key=(1, 0), door=(1, 1))
    episode = [RIGHT, STAY, DOWN, STAY, UP, DOWN]
    assert rewards(env, params, episode * 2) == [1, 0, 1, 0, 0, 0] * 2


def test_door_before_key_pays_nothing():
    env = build(DarkKeyToDoor, start=(0, 0))
    params = key_and_door(env, key=(2, 0), door=(1, 0))
    assert rewards(env, params, [RIGHT, STAY, RIGHT, LEFT, RIGHT, LEFT]) == [0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("key", "door", "actions", "expected"),
    [
        ((1, 0), (2, 0), [RIGHT, RIGHT, LEFT, RIGHT], [1, 1, 0, 0]),  # one row
        ((0, 1), (0, 2), [DOWN, DOWN, UP, DOWN], [1, 1, 0, 0]),  # one column
        ((1, 2), (2, 1), [RIGHT, DOWN, DOWN, RIGHT, UP], [0, 0, 1, 0, 1]),  # coordinates swapped
        ((1, 0), (1, 0), [RIGHT, STAY, STAY, LEFT], [1, 1, 0, 0]),  # one cell: one after the other
        ((1, 0), (1, 0), [RIGHT, LEFT, RIGHT, RIGHT], [1, 0, 1, 0]),
    ],
)
def test_key_and_door_may_share_coordinates(key, door, actions, expected):
    env = build(DarkKeyToDoor, start=(0, 0))
    assert rewards(env, key_and_door(env, key, door), actions) == expected


def test_the_first_step_counts_the_cell_it_leads_to_and_not_the_start():
    """Starting on the goal earns nothing until a step ends there."""
    env = build(DarkRoomHard, size=3)
    params = env.default_params.replace(goal=jnp.array([1, 1]))
    assert rewards(env, params, [RIGHT, LEFT]) == [0, 1]


@all_rooms
def test_size_length_and_start_are_parameters(room):
    env, tasks = registry.make(room.__name__, size=4, max_steps_in_episode=7, start=[3, 0])
    assert tasks.num_tasks == (256 if room is DarkKeyToDoor else 16)
    first, steps = walk(env, task(env, 0), [RIGHT] + [LEFT] * 7)
    assert first.tolist() == [3, 0]
    assert [step[0].tolist()[0] for step in steps] == [3, 2, 1, 0, 0, 0, 3, 2]
    assert env.observation_space().high == 3


@all_rooms
@pytest.mark.parametrize("start", ["middle", (9, 99), (-1, 0), (1, 2, 3), 3, None])
def test_a_bad_start_is_a_user_error(room, start):
    with pytest.raises(UserError, match=room.__name__):
        registry.make(room.__name__, start=start)


def test_bad_arguments_are_user_errors():
    with pytest.raises(UserError, match=r"DarkRoom.*'colour'"):
        registry.make("DarkRoom", colour="red")


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(UserError, match=r"'DarkRum'.*DarkKeyToDoor.*DarkRoom.*DarkRoomHard"):
        registry.make("DarkRum")


@pytest.mark.parametrize("room", ROOMS)
def test_make_finds_the_rooms_by_name(room):
    env, tasks = registry.make(room.__name__)
    assert type(env) is room
    assert isinstance(tasks, TaskDistribution)


class Corridor(DarkRoom):
    """A room in a user's own module."""


def test_an_environment_of_another_module_is_found_by_its_name():
    env, tasks = registry.make(f"{__name__}:Corridor", size=2)
    assert type(env).__name__ == "Corridor"
    assert tasks.num_tasks == 4
    assert registry.arguments(f"{__name__}:Corridor")["size"] == 9
