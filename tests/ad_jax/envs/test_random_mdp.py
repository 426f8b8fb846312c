import itertools

import jax
import numpy as np
import pytest

from ad_jax.envs import dynamic_programming as dp
from ad_jax.envs import registry
from ad_jax.envs.random_mdp import RandomMDP
from ad_jax.evaluation.agents import optimal_agent
from ad_jax.rollout import make_rollouts

SMALL = dict(num_states=5, num_actions=3, max_steps_in_episode=4)


def graph(env, params):
    """(next state, reward) [states, actions], of the environment's own steps."""
    step = jax.jit(lambda s, a: env.step_env(jax.random.key(9), s, a, params)[1:3])
    _, start = env.reset_env(jax.random.key(0), params)
    following = np.zeros((env.num_states, env.num_actions), int)
    reward = np.zeros(following.shape)
    for s, a in itertools.product(*map(range, following.shape)):
        state, r = step(start.replace(state=np.int32(s)), np.int32(a))
        following[s, a], reward[s, a] = state.state, r
    return following, reward


def test_returns_are_those_of_every_sequence_of_actions():
    """Oracle: brute force over the graph that the environment's steps trace."""
    env = RandomMDP(**SMALL)
    for seed in (1, 2, 3):
        params = jax.tree.map(lambda x: x[0], env.tasks().params(np.array([seed])))
        following, reward = graph(env, params)
        returns = []
        for sequence in itertools.product(range(3), repeat=4):
            state, total = 0, 0.0
            for action in sequence:
                total += reward[state, action]
                state = following[state, action]
            returns.append(total)
        np.testing.assert_allclose(dp.optimal_return(env, params), max(returns), atol=1e-6)
        np.testing.assert_allclose(dp.random_return(env, params), np.mean(returns), atol=1e-6)


def test_the_optimal_agent_earns_the_optimum():
    env, tasks = registry.make("RandomMDP", **SMALL)
    params = tasks.params(np.arange(20))
    init, advance = make_rollouts(env, lambda params: optimal_agent(env, params))
    state = init(jax.random.key(0), np.arange(20), params, 1)
    _, history = jax.jit(lambda state: advance(state, 8))(state)
    best = jax.vmap(lambda params: dp.optimal_return(env, params))(params)
    np.testing.assert_allclose(history.reward[:, 0].sum(-1), 2 * best, atol=1e-5)
    assert len(np.unique(best)) > 2


def test_tasks_are_uniform_graphs_and_differ():
    env, tasks = registry.make("RandomMDP")
    params = tasks.params(np.arange(200))
    states = env.all_states()

    def next_states(params):
        step = lambda s, a: env.step_env(jax.random.key(0), s, a, params)[1].state
        over = jax.vmap(jax.vmap(step, (None, 0)), (0, None))
        return over(jax.tree.map(np.asarray, states), np.arange(env.num_actions))

    found = np.asarray(jax.jit(jax.vmap(next_states))(params))  # [task, state, action]
    counts = np.bincount(found.reshape(-1), minlength=16)
    expected = found.size / 16
    assert abs(((counts - expected) ** 2 / expected).sum() - 15) < 5 * np.sqrt(30)
    assert len(np.unique(found.reshape(200, -1), axis=0)) == 200
    paying = np.asarray(jax.vmap(env.paying_state)(params))
    assert set(paying.tolist()) == set(range(1, 16))


@pytest.mark.parametrize("name", ["num_states", "num_actions", "max_steps_in_episode"])
def test_sizes_that_make_no_sense_are_refused(name):
    with pytest.raises(ValueError, match=f"^{name} must be a whole number"):
        RandomMDP(**{name: 0})
