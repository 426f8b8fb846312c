import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import ad_jax
from ad_jax.envs import registry
from ad_jax.errors import UserError
from ad_jax.gymnasium import TaskEnv, evaluate, make, make_vec
from ad_jax.learner import load
from ad_jax.rollout import begin, interact
from experiments.configs import cart_pole
from tests.ad_jax.test_learner import written

NAMES = tuple(registry.ENVIRONMENTS)


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_finds_nothing_wrong(name, recwarn):
    env = gymnasium.make(f"ad_jax/{name}-v0", disable_env_checker=True)
    check_env(env.unwrapped, skip_render_check=True)
    assert not [w for w in recwarn if "gymnasium" in str(w.filename)], [str(w) for w in recwarn]


@pytest.mark.parametrize("name", ("DarkRoom", "DarkKeyToDoor"))
def test_rooms_have_pictures(name):
    env = make(name, render_mode="rgb_array", task=3)
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (144, 144, 3)
    colours = {tuple(c) for c in picture.reshape(-1, 3)}
    assert len(colours) == 3
    with pytest.raises(UserError, match="only dark rooms have pictures"):
        make("AdversarialBandit", render_mode="rgb_array")


@pytest.mark.parametrize("name", ("DarkRoom", "DarkKeyToDoor", "AdversarialBandit", "Watermaze"))
def test_it_is_the_same_world(name):
    """Oracle: the environment's own steps, with the same task and actions, and no auto-reset."""
    env = make(name, task=7).unwrapped
    observation, info = env.reset(seed=0)
    assert info == {"task": 7}
    world, tasks = registry.make(name)
    params = jax.tree.map(lambda x: x[0], tasks.params(np.array([7], np.int32)))
    state = env._state
    rng = np.random.default_rng(0)
    for step in range(int(params.max_steps_in_episode)):
        action = int(rng.integers(world.num_actions))
        key = env._key
        observation, reward, terminated, truncated, _ = env.step(action)
        expected, state, value, ended, _ = world.step_env(
            jax.random.split(key)[1], state, np.int32(action), params
        )
        np.testing.assert_array_equal(observation, expected)
        assert reward == float(value) and terminated == bool(ended)
        assert truncated == (step == params.max_steps_in_episode - 1)
        if terminated:
            break


def test_a_task_is_kept_until_another_is_asked_for():
    env = make("DarkRoom")
    first = env.reset(seed=1)[1]["task"]
    assert [env.reset()[1]["task"] for _ in range(3)] == [first] * 3
    assert env.reset(seed=1)[1]["task"] == first
    assert env.reset(options={"task": 5})[1]["task"] == 5
    assert env.reset(seed=1)[1]["task"] == 5  # it was given
    drawn = {make("DarkRoom").reset(seed=seed)[1]["task"] for seed in range(20)}
    assert len(drawn) > 10


@pytest.mark.parametrize("task", [-1, 81, 0.5, "x"])
def test_a_task_that_is_not_there_is_refused(task):
    with pytest.raises(UserError, match=r"DarkRoom has tasks 0 to 80"):
        make("DarkRoom", task=task)


def test_actions_and_order_are_checked():
    env = TaskEnv("DarkRoom")
    with pytest.raises(UserError, match="call reset before step"):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(UserError, match=r"action=5: give one of Discrete\(5\)"):
        env.step(5)
    many = make_vec("DarkRoom", 2)
    many.reset(seed=0)
    with pytest.raises(UserError, match="give 2 of"):
        many.step([0, 5])
    with pytest.raises(UserError, match="give 2 of"):
        many.step([0.5, 1.0])
    with pytest.raises(UserError, match="give one id, or 2"):
        make_vec("DarkRoom", 2, task=[1, 2, 3])


def test_a_vector_is_its_environments_side_by_side():
    """Oracle: single environments, same actions. One that ends is reset in the same step."""
    ids = [3, 40, 80]
    many = gymnasium.make_vec("ad_jax/DarkRoom-v0", 3, vectorization_mode="vector_entry_point",
                              task=ids)  # fmt: skip
    assert many.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    alone = [make("DarkRoom", task=task) for task in ids]
    observation, info = many.reset(seed=0)
    assert info["task"].tolist() == ids and many.observation_space.contains(observation)
    for env in alone:
        env.reset(seed=0)
    rng = np.random.default_rng(0)
    for step in range(25):
        actions = rng.integers(5, size=3)
        observation, reward, terminated, truncated, info = many.step(actions)
        for i, env in enumerate(alone):
            seen, earned, ended, cut, _ = env.step(actions[i])
            assert (earned, ended, cut) == (reward[i], terminated[i], truncated[i])
            if cut:
                assert info["_final_obs"][i]
                np.testing.assert_array_equal(info["final_obs"][i], seen)
                seen, _ = env.reset()
            np.testing.assert_array_equal(observation[i], seen)
        assert ("final_obs" in info) == (step == 19)


@pytest.fixture(scope="module")
def learner():
    return load("dark_room")


def test_both_loops_give_the_same_returns(learner):
    """JAX's scan and Gymnasium's loop: means by episode agree within four standard errors."""
    task = int(learner.tasks.heldout[5])
    ours = learner.evaluate([task], episodes=12, rollouts=96, seed=0)[0]
    vector = make_vec("DarkRoom", 96, task=task)
    theirs = evaluate(learner, vector, episodes=12, seed=1)
    few = evaluate(learner, [make("DarkRoom", task=task) for _ in range(16)], episodes=12, seed=2)
    for other in (theirs, few):
        error = np.sqrt(ours.var(0) / len(ours) + other.var(0) / len(other)) + 1e-2
        assert (np.abs(ours.mean(0) - other.mean(0)) < 4 * error).all()
    assert theirs[:, -1].mean() > 2 * theirs[:, 0].mean() + 2  # it learned there


def test_gymnasiums_own_environments_are_driven(tmp_path):
    """A model for gymnax's CartPole acts in Gymnasium's; other autoreset modes are refused."""
    written(tmp_path, cart_pole.get_config("smoke"))
    cart = load(tmp_path)
    returns = evaluate(cart, gymnasium.make("CartPole-v1"), episodes=3)
    assert returns.shape == (1, 3) and (returns >= 8).all()  # it takes at least 8 steps to fall
    same = {"vector_kwargs": {"autoreset_mode": AutoresetMode.SAME_STEP}}
    many = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync", **same)
    assert evaluate(cart, many, episodes=2).shape == (2, 2)
    with pytest.raises(UserError, match="must reset in the same step"):
        evaluate(cart, gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync"))


def test_other_spaces_are_refused(learner):
    with pytest.raises(UserError, match=r"observations have shape \(4,\)"):
        evaluate(learner, gymnasium.make("CartPole-v1"))
    with pytest.raises(UserError, match="envs is empty"):
        evaluate(learner, [])

    class Other(TaskEnv):
        def __init__(self):
            super().__init__("DarkRoom")
            self.action_space = gymnasium.spaces.Discrete(4)

    with pytest.raises(UserError, match=r"actions are Discrete\(4\): the learner has 5"):
        evaluate(learner, Other())


@pytest.mark.parametrize("tasks", [None, cart_pole.tasks])
def test_a_world_of_gymnax_has_tasks_of_its_own_or_others(tasks):
    env = TaskEnv("CartPole-v1", tasks=tasks)
    check_env(env, skip_render_check=True)
    assert env.reset(seed=0)[1]["task"] >= 0


def test_the_module_is_found_from_the_package():
    assert ad_jax.gymnasium.make is make


def test_stable_baselines_learns_in_it():
    """If it is installed (the extra "bench"): its PPO, in vectorised environments, finds a goal."""
    baselines = pytest.importorskip("stable_baselines3")
    envs = baselines.common.env_util.make_vec_env(lambda: make("DarkRoom", task=31), n_envs=4)
    model = baselines.PPO("MlpPolicy", envs, n_steps=128, ent_coef=0.05, seed=0, device="cpu")
    model.learn(20_000)
    rewards = []
    observation = envs.reset()
    for _ in range(40):
        action, _ = model.predict(observation)
        observation, reward, _, _ = envs.step(action)
        rewards.append(reward)
    assert np.sum(rewards) / 8 > 5  # of 15 an episode; at random 0.5


def test_episodes_that_end_by_themselves_are_terminated():
    """Watermaze with ``goal_mode="terminate"``: the expert's episode terminates on the platform."""
    env = make("Watermaze", goal_mode="terminate", max_steps_in_episode=47, task=2).unwrapped
    env.reset(seed=0)
    world, params = env._world.env, env._params
    expert = jax.jit(world.shortest_path_action)
    for _ in range(47):
        _, reward, terminated, truncated, _ = env.step(int(expert(env._state, params)))
        if terminated or truncated:
            break
    assert terminated and reward == 1.0


def test_the_first_steps_are_those_of_the_library():
    """Oracle: ``begin`` and ``interact``, which see the same observations."""
    world, tasks = registry.make("DarkRoom")
    params = jax.tree.map(lambda x: x[0], tasks.params(np.array([3], np.int32)))
    now = begin(world, jax.random.key(0), params)
    now, history, _ = interact(world, now, np.int32(1), jax.random.key(1), params)
    env = make("DarkRoom", task=3)
    first, _ = env.reset(seed=0)
    second = env.step(1)[0]
    np.testing.assert_array_equal(history.observation, first)
    np.testing.assert_array_equal(now.observation, second)
