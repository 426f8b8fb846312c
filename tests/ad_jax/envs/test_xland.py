import jax
import numpy as np
import pytest
import xminigrid
from xminigrid.core import goals

from ad_jax.envs.checker import check_env
from ad_jax.envs.xland import HOLD, NEAR, TILE_NEAR, XLand
from ad_jax.errors import UserError

SMALL = dict(size=5, num_objects=3, max_steps_in_episode=30)


@pytest.fixture(scope="module")
def env():
    return XLand(**SMALL)


def task_of(env, kind):
    """The first task with this kind of goal."""
    params = env.tasks().params(np.arange(env.tasks().num_tasks))
    first = int(np.flatnonzero(np.asarray(params.goal[:, 0]) == kind)[0])
    return jax.tree.map(lambda x: x[first], params)


def test_it_is_without_fault(env):
    check_env(env)


def test_goals_are_encoded_as_the_package_does(env):
    kinds = {HOLD: goals.AgentHoldGoal, NEAR: goals.AgentNearGoal}
    for kind, goal in kinds.items():
        found = task_of(env, kind).goal
        np.testing.assert_array_equal(found, goal(tile=found[1:3]).encode())
    found = task_of(env, TILE_NEAR).goal
    made = goals.TileNearGoal(tile_a=found[1:3], tile_b=found[3:5]).encode()
    np.testing.assert_array_equal(found, made)


def test_every_goal_is_one_task_and_can_be_reached(env):
    """The objects that a goal needs are in the room."""
    params = env.tasks().params(np.arange(env.tasks().num_tasks))
    goal, tiles = np.asarray(params.goal), np.asarray(params.init_tiles)
    assert len(np.unique(goal, axis=0)) == len(goal) == env.tasks().num_tasks
    for first in (1, 3):
        needed = goal[:, first : first + 2]
        there = (tiles == needed[:, None]).all(-1).any(1)
        assert there[needed.any(-1)].all()
    assert (tiles[..., 0] > 0).all()


@pytest.mark.parametrize("kind", [HOLD, NEAR])
def test_steps_are_those_of_the_package(env, kind):
    """Oracle: the package itself, with the same task; random actions until the goal is reached."""
    params = task_of(env, kind)
    world, usual = xminigrid.make("XLand-MiniGrid-R1-9x9", height=5, width=5, max_steps=30)
    rules = {"goal": params.goal, "rules": params.rules, "init_tiles": params.init_tiles}
    usual = usual.replace(ruleset=usual.ruleset.replace(**rules))
    ours, theirs = jax.jit(env.step_env), jax.jit(world.step)
    ended = False
    for seed in range(20):
        key = jax.random.key(seed)
        observation, state = env.reset_env(key, params)
        timestep = world.reset(usual, key)
        np.testing.assert_array_equal(observation, timestep.observation)
        for action in np.random.default_rng(seed).integers(0, 6, 30):
            observation, state, reward, terminated, _ = ours(key, state, action, params)
            timestep = theirs(usual, timestep, action)
            np.testing.assert_array_equal(observation, timestep.observation)
            assert reward == timestep.reward and terminated == (timestep.discount == 0)
            if terminated:
                assert reward > 0
                ended = True
                break
    assert ended


def test_benchmarks_that_do_not_exist_are_refused():
    with pytest.raises(UserError, match=r"^env\.kwargs\.benchmark='huge': choose one of"):
        XLand(benchmark="huge")
    with pytest.raises(ValueError, match=r"^num_objects must be from 2 to 16"):
        XLand(num_objects=1)


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "xminigrid", None)
    with pytest.raises(UserError, match=r"needs xminigrid: pip install '\.\[xland\]'"):
        XLand()
