"""The point robot, and continuous actions on a grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from ad_jax.actions import Actions
from ad_jax.envs import registry
from ad_jax.envs.binned import Binned
from ad_jax.envs.point_robot import PointRobot
from ad_jax.envs.variants import Variants
from ad_jax.errors import UserError
from ad_jax.evaluation.agents import optimal_agent, random_agent
from ad_jax.methods.train_state import zero_inputs
from ad_jax.models.base import SequenceModel
from ad_jax.models.gru import GRUConfig
from ad_jax.rollout import make_rollouts


def test_places_lie_evenly_between_the_bounds():
    env = Binned(PointRobot(), bins=5)
    assert Actions.of(env) == Actions((5, 5))
    np.testing.assert_allclose(env.continuous(np.array([[0, 4], [1, 2]])), [[-1, 1], [-0.5, 0]])
    places = np.stack(np.meshgrid(*[np.arange(5)] * 2), -1)
    np.testing.assert_array_equal(env.nearest(env.continuous(places)), places)
    np.testing.assert_array_equal(env.nearest(np.array([0.2, -7.0])), [2, 0])


def test_everything_else_is_the_environment_within():
    inner = PointRobot(near=0.2)
    env, tasks = registry.make("PointRobot", near=0.2)
    assert isinstance(env, Binned) and env.bins == 5 and env.name == "PointRobot"
    assert env.version == inner.version and env.near == 0.2 and tasks.num_tasks == 10_000
    params = jax.tree.map(lambda x: x[0], tasks.params(np.array([4])))
    _, state = env.reset(jax.random.key(0), params)
    action = np.array([4, 1])
    ours = env.step(jax.random.key(1), state, action, params)
    theirs = inner.step(jax.random.key(1), state, env.continuous(action), params)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_the_optimal_return_is_that_of_the_expert():
    """Oracle: what the expert, whose actions are not on the grid, earns in the environment."""
    env = PointRobot()
    params = env.tasks().params(np.arange(0, 10_000, 777))

    def episode(params):
        observation, state = env.reset_env(jax.random.key(0), params)

        def step(carry, _):
            observation, state = carry
            action = env.expert_action(observation, params)
            observation, state, reward, *_ = env.step_env(None, state, action, params)
            return (observation, state), reward

        return jax.lax.scan(step, (observation, state), length=20)[1].sum()

    found = jax.vmap(episode)(params)
    np.testing.assert_array_equal(found, jax.vmap(env.optimal_return)(params))
    assert found.min() >= 11 and len(np.unique(found)) > 1


def test_agents_act_by_components():
    env, tasks = registry.make("PointRobot")
    params = tasks.params(np.array([100, 5000, 9000]))

    def returns(make_agent):
        init, advance = make_rollouts(env, make_agent)
        state = init(jax.random.key(0), jnp.arange(3), params, 8)
        _, history = jax.jit(lambda state: advance(state, 20))(state)
        assert history.action.shape == (3, 8, 20, 2)
        return np.asarray(history.reward.sum(-1))

    best = jax.vmap(env.optimal_return)(params)
    expert = returns(lambda params: optimal_agent(env, params))
    assert np.all(expert >= best[:, None] - 2)  # on the grid the path is a little longer
    assert returns(lambda _: random_agent(Actions.of(env))).mean() < 1.0


def test_a_model_is_initialised_with_actions_of_its_shape():
    env, _ = registry.make("PointRobot")
    config = GRUConfig(width=8, hidden=8, mlp_width=8)
    model = SequenceModel(config, env.observation_space(), Actions.of(env))
    assert zero_inputs(model)["previous_action"].shape == (1, 1, 2)


def test_goals_of_the_halves_are_apart():
    distribution = PointRobot().tasks()
    ids = np.arange(0, 10_000, 50)
    upper, lower = distribution.params(ids), distribution.shifted["lower half"].params(ids)
    assert np.all(upper.goal[:, 1] > 0) and np.all(lower.goal[:, 1] < 0)
    np.testing.assert_allclose(np.linalg.norm(upper.goal, axis=-1), 1.0, rtol=1e-6)


def test_any_continuous_world_of_gymnax_has_tasks():
    """Its tasks mirror actions: in one, action 8 does what action 2 does in the other."""
    env, tasks = registry.make("Pendulum-v1", max_steps_in_episode=30)
    assert isinstance(env.inner, Variants) and tasks.num_tasks == 2**4
    one, other = (
        jax.tree.map(lambda x, i=i: x[i], tasks.params(np.array([0, 8]))) for i in range(2)
    )
    assert one.actions.tolist() == [1.0] and other.actions.tolist() == [-1.0]
    _, state = env.reset(jax.random.key(0), one)
    step = lambda action, params: env.step_env(
        jax.random.key(1), state, np.array([action]), params
    )[0]
    np.testing.assert_allclose(step(2, one), step(8, other), rtol=1e-6)
    assert not np.allclose(step(2, one), step(2, other))


@pytest.mark.parametrize(
    "space, bins, message",
    [
        (spaces.Box(-1.0, 1.0, (2, 2)), 5, r"shape \(2, 2\) .* give a vector"),
        (spaces.Box(-np.inf, 1.0, (2,)), 5, "with finite bounds"),
        (spaces.Box(-1.0, 1.0, (2,)), 1, "^action_bins=1: give 2 to 256"),
    ],
)
def test_what_has_no_grid_is_refused(space, bins, message):
    class World(PointRobot):
        def action_space(self, params=None):
            return space

    with pytest.raises(UserError, match=message):
        Binned(World(), bins)


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"^near must be above 0"):
        PointRobot(near=0.0)
    with pytest.raises(ValueError, match=r"^max_steps_in_episode must be"):
        PointRobot(max_steps_in_episode=0)
