import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ad_jax.actions import Actions
from ad_jax.envs import dynamic_programming, registry
from ad_jax.errors import UserError
from ad_jax.evaluation.agents import model_agent, optimal_agent, random_agent
from ad_jax.evaluation.statistics import episode_returns
from ad_jax.interfaces import Agent
from ad_jax.models.base import SequenceModel
from ad_jax.models.transformer import TransformerConfig
from ad_jax.rollout import make_rollouts, recording, tasks_at_once

SMALL = {
    "DarkRoom": dict(size=4, max_steps_in_episode=6),
    "DarkRoomHard": dict(size=4, max_steps_in_episode=6),
    "DarkKeyToDoor": dict(size=3, max_steps_in_episode=12),
}


def run(env, tasks, ids, make_agent, rollouts, episodes, seed=0):
    init, advance = make_rollouts(env, make_agent)
    ids = np.asarray(ids)
    state = jax.jit(init, static_argnums=3)(jax.random.key(seed), ids, tasks.params(ids), rollouts)
    _, history = jax.jit(advance, static_argnums=1)(state, episodes * env.max_steps_in_episode)
    return history, episode_returns(
        np.asarray(history.reward), np.asarray(history.is_last), episodes
    )


@pytest.mark.parametrize("name", SMALL)
def test_the_optimal_agent_attains_the_optimum_on_every_task(name):
    env, tasks = registry.make(name, **SMALL[name])
    ids = np.arange(tasks.num_tasks)
    optimum = jax.vmap(lambda p: dynamic_programming.optimal_return(env, p))(tasks.params(ids))
    _, returns = run(env, tasks, ids, lambda params: optimal_agent(env, params), 2, 3)
    if env.start == "random":  # the optimum is a mean over starts, and here every start attains it
        np.testing.assert_allclose(optimum, 2, atol=1e-5)
    np.testing.assert_allclose(
        returns, np.broadcast_to(optimum[:, None, None], returns.shape), atol=1e-4
    )


@pytest.mark.parametrize("name", SMALL)
def test_the_random_agent_has_the_exact_random_return(name):
    env, tasks = registry.make(name, **SMALL[name])
    ids = np.arange(0, tasks.num_tasks, 5)
    exact = jax.vmap(lambda p: dynamic_programming.random_return(env, p))(tasks.params(ids))
    _, returns = run(env, tasks, ids, lambda _: random_agent(Actions.of(env)), 200, 10)
    error = returns.std((1, 2)) / np.sqrt(2000)
    assert np.all(np.abs(returns.mean((1, 2)) - exact) < 5 * error + 1e-6)


def spy_agent():
    """Ignores what it sees; its memory counts the steps that it has taken."""
    return Agent(
        init=lambda key: jnp.zeros((), jnp.int32),
        act=lambda memory, observation, previous_action, previous_reward, is_first: (
            memory + 1,
            memory % 5,
        ),
    )


def test_memory_outlives_episodes_and_inputs_follow_the_actions():
    env, tasks = registry.make("DarkRoom", size=4, max_steps_in_episode=6)
    init, advance = make_rollouts(env, lambda _: recording(spy_agent()))
    state = init(jax.random.key(0), np.array([5]), tasks.params(np.array([5])), 1)
    _, *made = jax.jit(advance, static_argnums=1)(state, 18)
    history, seen = jax.tree.map(lambda x: np.asarray(x)[0, 0], made)
    assert history.action.tolist() == [t % 5 for t in range(18)]  # never reset
    assert seen["previous_action"].tolist() == [5, *history.action[:-1]]  # no action yet
    assert seen["previous_reward"].tolist() == [0, *history.reward[:-1]]
    assert seen["is_first"].tolist() == [t % 6 == 0 for t in range(18)]
    np.testing.assert_array_equal(history.is_first, seen["is_first"])
    np.testing.assert_array_equal(history.observation, seen["observation"])


def test_a_rollout_does_not_depend_on_the_tasks_beside_it():
    env, tasks = registry.make("DarkKeyToDoor", size=3, max_steps_in_episode=12)
    agent = lambda _: random_agent(Actions.discrete(5))
    together, _ = run(env, tasks, [3, 8, 40], agent, 4, 2)
    alone, _ = run(env, tasks, [8], agent, 2, 2)
    np.testing.assert_array_equal(together.action[1, :2], alone.action[0])
    np.testing.assert_array_equal(together.observation[1, :2], alone.observation[0])
    assert (together.action[0] != together.action[1]).any()
    assert (together.action[0, 0] != together.action[0, 1]).any()


def transformer(env, context):
    config = TransformerConfig(width=16, num_layers=2, num_heads=2, mlp_width=32, context=context)
    model = SequenceModel(config, env.observation_space(), Actions.of(env))
    dummy = (
        jnp.zeros((1, 1, 2), jnp.int32), jnp.zeros((1, 1), jnp.int32),
        jnp.zeros((1, 1)), jnp.zeros((1, 1), bool),
    )  # fmt: skip
    params = model.init(jax.random.key(3), *dummy)
    sharper = jax.tree.map(lambda x: 3 * x, params)
    return model, sharper


def test_fast_and_exact_mode_agree_until_the_context_is_full():
    env, tasks = registry.make("DarkKeyToDoor", size=4, max_steps_in_episode=10)
    model, params = transformer(env, context=20)

    def actions(mode):
        agent = model_agent(model, params, mode=mode)
        return np.asarray(run(env, tasks, [0, 70, 200], lambda _: agent, 3, 4)[0].action)

    fast, exact = actions("fast"), actions("exact")
    np.testing.assert_array_equal(fast[..., :20], exact[..., :20])
    assert (fast[..., 20:] != exact[..., 20:]).any()  # they are different functions afterwards


def test_temperature():
    env, tasks = registry.make("DarkRoom")
    model, params = transformer(env, context=20)
    act = lambda t: np.asarray(
        run(env, tasks, [0], lambda _: model_agent(model, params, temperature=t), 6, 1)[0].action
    )
    greedy = act(0.0)
    assert (greedy == greedy[:, :1]).all()  # all rollouts alike
    assert (act(1.0) != act(1.0)[:, :1]).any()
    cold = act(1e-4)
    np.testing.assert_array_equal(cold, greedy)
    with pytest.raises(UserError, match=r"evaluation\.mode"):
        model_agent(model, params, mode="quick")


def test_rollouts_spread_over_devices_are_the_same():
    from ad_jax.distributed import sharding

    env, tasks = registry.make("DarkRoom")
    init, advance = make_rollouts(env, lambda _: random_agent(Actions.discrete(5)))
    ids = np.arange(8)
    results = []
    for placed in (None, sharding.task_sharding(sharding.make_mesh())):
        state = jax.jit(init, static_argnums=3, out_shardings=placed)(
            jax.random.key(0), ids, tasks.params(ids), 2
        )
        _, history = jax.jit(advance, static_argnums=1, out_shardings=placed)(state, 40)
        results.append(history)
    jax.tree.map(np.testing.assert_array_equal, *results)


@pytest.mark.parametrize("at_once", [1, 3, 7, 10])
def test_tasks_in_tiles_act_as_all_at_once(at_once):
    env, tasks = registry.make("DarkRoom", size=4, max_steps_in_episode=6)
    init, advance = make_rollouts(env, lambda _: random_agent(Actions.of(env)))
    ids = np.arange(7)
    state = init(jax.random.key(0), ids, tasks.params(ids), 2)
    run = jax.jit(advance, static_argnums=(1, 2))
    made, want = (keyless(run(state, 20, number)) for number in (at_once, None))
    jax.tree.map(np.testing.assert_array_equal, made, want)
    assert made[1].action.shape == (7, 2, 20)


def keyless(tree):
    """A tree with typed random keys replaced by their raw data."""
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree)


@pytest.mark.parametrize(("tasks", "megabytes", "at_once"), [(41, 5, 41), (41, 25, 11), (3, 90, 2)])
def test_tiles_of_tasks_fit_the_caches_and_are_of_one_size(tasks, megabytes, at_once):
    """A tile has at most 8 MiB, or two tasks."""
    memory = {"cache": jax.ShapeDtypeStruct((tasks, megabytes * 2**20 // tasks // 4), np.float32)}
    assert tasks_at_once(memory) == at_once
