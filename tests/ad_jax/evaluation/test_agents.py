import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ad_jax.actions import Actions
from ad_jax.envs import dynamic_programming, registry
from ad_jax.evaluation.agents import demonstrator, optimal_agent, prompted_agent, random_agent
from ad_jax.evaluation.statistics import episode_returns
from ad_jax.interfaces import Agent
from ad_jax.rollout import make_rollouts

EPISODES = 40


def room(**kwargs):
    env, tasks = registry.make("DarkRoom", **{"size": 5, "max_steps_in_episode": 10, **kwargs})
    ids = np.arange(tasks.num_tasks)
    return env, ids, tasks.params(ids)


def returns_of(env, ids, params, make_agent, rollouts=20, episodes=EPISODES):
    """[task, rollout, episode]."""
    init, advance = make_rollouts(env, make_agent)
    state = jax.jit(init, static_argnums=3)(jax.random.key(0), ids, params, rollouts)
    steps = episodes * env.max_steps_in_episode
    _, history = jax.jit(advance, static_argnums=1)(state, steps)
    return episode_returns(np.asarray(history.reward), np.asarray(history.is_last), episodes)


def test_noise_between_the_optimal_and_the_random_policy():
    env, _, params = room()
    noisy = jax.vmap(dynamic_programming.noisy_return, in_axes=(None, 0, None))
    optimal = jax.vmap(lambda p: dynamic_programming.optimal_return(env, p))(params)
    chance = jax.vmap(lambda p: dynamic_programming.random_return(env, p))(params)
    np.testing.assert_allclose(noisy(env, params, 0.0), optimal, rtol=1e-6)
    np.testing.assert_allclose(noisy(env, params, 1.0), chance, rtol=1e-5)
    epsilon_for = jax.vmap(dynamic_programming.epsilon_for, in_axes=(None, 0, None))
    assert (epsilon_for(env, params, 0.01) > 0.9999).sum() > 20  # a lower quality than chance has
    np.testing.assert_allclose(epsilon_for(env, params, 1.0), 0, atol=1e-5)


@pytest.mark.parametrize("quality", [0.5, 0.9])
def test_a_demonstrator_earns_what_was_asked_for(quality):
    """On every task, near goals and far ones alike, within four standard errors."""
    env, ids, params = room()
    optimal = jax.vmap(lambda p: dynamic_programming.optimal_return(env, p))(params)
    returns = returns_of(env, ids, params, lambda p: demonstrator(env, p, quality))
    error = returns.std((1, 2)) / np.sqrt(20 * EPISODES)
    assert (np.abs(returns.mean((1, 2)) - quality * np.asarray(optimal)) < 4 * error + 1e-3).all()


def test_who_is_prompted_acts_after_the_prompt_and_has_seen_it():
    """Both agents see every step, and no more than its observation, action and reward."""
    env, ids, params = room()
    counting = Agent(
        init=lambda key: jnp.zeros(()),
        act=lambda seen, observation, previous_action, previous_reward, is_first: (
            seen + previous_reward,
            jnp.where(seen + previous_reward > 0, 4, 0),  # stays once it has seen a reward
        ),
    )
    make = lambda p: prompted_agent(counting, optimal_agent(env, p), episodes=2)
    returns = returns_of(env, ids, params, make, rollouts=1, episodes=4)[:, 0]
    optimal = jax.vmap(lambda p: dynamic_programming.optimal_return(env, p))(params)
    np.testing.assert_allclose(returns[:, :2], np.stack([optimal] * 2, 1), rtol=1e-6)
    centre = len(ids) // 2  # where it stays
    assert (returns[centre, 2:] == 10).all()
    assert (np.delete(returns, centre, 0)[:, 2:] == 0).all()


def test_nothing_of_the_task_but_its_transitions_reaches_who_is_prompted():
    """The demonstrator knows the task but always stays, so its steps do not reveal the task."""
    env, ids, params = room()

    def prompted(env_params):
        knows = optimal_agent(env, env_params)
        stays = Agent(knows.init, lambda memory, *seen: (knows.act(memory, *seen)[0], 4))
        return prompted_agent(random_agent(Actions.of(env)), stays, episodes=1)

    init, advance = make_rollouts(env, prompted)
    state = init(jax.random.key(0), np.zeros_like(ids), params, 1)  # the same keys for all
    state, history = advance(state, 20)
    own, _, _ = state.memory
    assert (history.action[..., :10] == 4).all() and len(np.unique(history.action[0])) > 2
    assert (history.action == history.action[:1]).all()
    assert (jax.random.key_data(own) == jax.random.key_data(own)[:1]).all()
