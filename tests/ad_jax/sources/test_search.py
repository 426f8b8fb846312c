"""Search visits all places, finds every platform, and goes back to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ad_jax.envs import registry
from ad_jax.errors import UserError
from ad_jax.evaluation.statistics import episode_returns
from ad_jax.sources.search import SearchConfig, search


def histories(goal_mode, platforms, streams=4, updates=30):
    """Histories [task, stream, time] of Watermaze, with platforms [task, 2], from one key."""
    env, _ = registry.make("PoseWatermaze", goal_mode=goal_mode)
    source = search(env, SearchConfig(num_streams=streams))
    params = jax.vmap(lambda p: env.default_params.replace(platform=p))(jnp.asarray(platforms))

    def run(params):
        state = source.init(jax.random.key(0), params)
        return jax.lax.scan(lambda s, _: source.step(s), state, length=updates)[1]

    made = jax.jit(jax.vmap(run))(params)
    join = lambda x: np.moveaxis(np.asarray(x), 1, 2).reshape(
        len(platforms), streams, -1, *x.shape[4:]
    )
    return jax.tree.map(join, made)


@pytest.mark.parametrize("goal_mode", ["terminate", "terminate_next", "once"])
def test_platforms_are_found_and_found_again(goal_mode):
    """Also if the observation after the reward is of the next episode."""
    _, tasks = registry.make("PoseWatermaze")
    history = histories(goal_mode, tasks.params(np.arange(6)).platform)
    returns = episode_returns(history.reward, history.is_last, 30)
    assert returns[..., 0].mean() < 0.5 and returns[..., -10:].mean() > 0.95


def test_nothing_is_known_of_the_platform_before_it_was_found():
    history = histories("terminate_next", [[300.0, 0.0], [-300.0, 0.0]])
    for stream in range(4):
        paid = np.flatnonzero(history.reward[:, stream].any(0))[0]
        np.testing.assert_array_equal(*history.action[:, stream, : paid + 1])
        assert (history.action[0, stream] != history.action[1, stream]).any()


def test_it_goes_everywhere_and_streams_take_different_ways():
    """With a platform outside the room, so that it searches to the end."""
    env, _ = registry.make("PoseWatermaze")
    history = histories("terminate_next", [[5000.0, 0.0]], updates=20)
    position = history.observation[0, :, :, :2] * 760.0  # units
    distance = np.linalg.norm(position[:, :, None] - env.places(), axis=-1)
    been = (distance.min(1) <= env.reach).mean(-1)
    assert been.min() > 0.95
    assert len(np.unique(history.action[0, :, :200], axis=0)) == 4


def test_places_cover_all_platforms():
    env, tasks = registry.make("Watermaze")
    platforms = np.asarray(tasks.params(np.arange(2000)).platform)
    distance = np.linalg.norm(platforms[:, None] - env.places(), axis=-1).min(1)
    assert distance.max() < 79


def test_it_needs_places():
    env, _ = registry.make("DarkRoom")
    with pytest.raises(UserError, match="can't be used in DarkRoom: it has no places"):
        search(env, SearchConfig())
