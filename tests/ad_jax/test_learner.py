import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import ad_jax
from ad_jax import build, checkpoint
from ad_jax.errors import UserError
from ad_jax.evaluation.statistics import episode_returns
from ad_jax.learner import Learner, load
from ad_jax.methods.train_state import TrainState, init_params
from experiments.configs import cart_pole, dark_room, watermaze


def written(folder, config, seeds=1) -> list:
    """Writes a workdir as training does, with fresh parameters; returns those of each seed."""
    config.train.seeds = seeds
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(config.to_json())
    model = build.model(config, build.world(config).env)
    of_seed = [init_params(jax.random.key(i), model) for i in range(seeds)]
    params = jax.tree.map(lambda *x: jnp.stack(x), *of_seed) if seeds > 1 else of_seed[0]
    checkpoints = checkpoint.Checkpoints(folder / "checkpoints")
    for step in (20, 40):
        checkpoints.save(step, TrainState(jnp.int32(step), params, ()), {})
        params = jax.tree.map(lambda x: x + 1, params)
    checkpoints.close()
    return of_seed


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "dark_room"
    written(folder, dark_room.get_config("smoke"))
    return folder


@pytest.fixture(scope="module")
def learner(workdir) -> Learner:
    return load(workdir)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_last_step_of_a_workdir_or_any_other_one(workdir, learner, tmp_path):
    (fresh,) = written(tmp_path, dark_room.get_config("smoke"))
    assert_equal(learner.params, jax.tree.map(lambda x: x + 1, fresh))
    assert_equal(load(workdir, step=20).params, fresh)
    assert_equal(load(workdir / "checkpoints" / "20").params, fresh)
    assert_equal(load(str(workdir)).params, learner.params)


def test_each_of_several_training_seeds(tmp_path):
    config = dark_room.get_config("smoke")
    config.seed = 3
    fresh = written(tmp_path, config, seeds=2)
    assert_equal(load(tmp_path, step=20).params, fresh[0])
    assert_equal(load(tmp_path, step=20, seed=4).params, fresh[1])
    with pytest.raises(UserError, match=r"seed=5: .* was trained with seeds \[3, 4\]"):
        load(tmp_path, seed=5)


def test_the_exact_mode_looks_at_the_whole_context_again(learner, workdir):
    """Within the context both modes act alike; what they remember differs."""
    exact = load(workdir, mode="exact")
    states = [one.reset(seed=1) for one in (learner, exact)]
    for step in range(6):
        actions = []
        for i, one in enumerate((learner, exact)):
            action, states[i] = one.act(states[i], [1, 1], 0.0, step == 0)
            actions.append(int(action))
        assert actions[0] == actions[1]
    memories = [jax.tree.map(jnp.shape, state.memory) for state in states]
    assert memories[0] != memories[1]


def test_nothing_is_logged(workdir, caplog):
    load(workdir)
    assert not caplog.records


def test_a_bucket(bucket, tmp_path):
    path, folder = bucket
    (fresh,) = written(folder / "run", dark_room.get_config("smoke"))
    loaded = load(f"{path}/run", step=20)
    assert_equal(loaded.params, fresh)
    loaded.save(f"{path}/small.safetensors")
    assert_equal(load(f"{path}/small.safetensors").params, fresh)


def test_what_is_saved_comes_back_without_the_training_state(learner, tmp_path):
    path = tmp_path / "mine.safetensors"
    learner.save(path)
    again = load(path)
    assert_equal(again.params, learner.params)
    assert again.config == learner.config
    np.testing.assert_array_equal(again.tasks.heldout, learner.tasks.heldout)
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    names = safetensors.numpy.load_file(path).keys()
    assert len(names) == len(jax.tree.leaves(learner.params))
    assert "params/head/kernel" in names


def test_it_acts_as_its_agent_does(learner):
    """Oracle: the agent's pure functions, without the checks and conversions of ``act``."""
    state, memory = learner.reset(seed=5), learner.agent.init(jax.random.key(5))
    rng, previous = np.random.default_rng(0), 5
    for step in range(12):
        observation, reward, done = rng.integers(3, size=2), rng.random(), step % 4 == 0
        action, state = learner.act(state, observation, reward, done)
        memory, expected = jax.jit(learner.agent.act)(
            memory, jnp.asarray(observation, jnp.int32), jnp.int32(previous), jnp.float32(reward),
            jnp.asarray(done),
        )  # fmt: skip
        assert action.shape == () and action.dtype == np.int32
        assert action == expected
        previous = int(expected)


def test_several_contexts_side_by_side_are_each_one_alone(learner):
    observation = np.array([[0, 0], [2, 1], [1, 1]])
    reward, done = np.array([0.0, 1.0, 0.5]), np.array([True, True, True])
    state = learner.reset(seed=1, batch=3)
    action, state = learner.act(state, observation, reward, done)
    action, state = learner.act(state, observation, reward, ~done)
    assert action.shape == (3,)
    keys = jax.random.split(jax.random.key(1), 3)
    for i in range(3):
        memory = learner.agent.init(keys[i])
        one = observation[i], np.float32(reward[i])
        memory, first = learner.agent.act(memory, one[0], jnp.int32(5), one[1], jnp.bool_(True))
        _, second = learner.agent.act(memory, one[0], first, one[1], jnp.bool_(False))
        assert action[i] == second


@pytest.mark.parametrize(
    "observation, reward, done",
    [
        ([1, 1], 0, True),
        ((1, 1), 0.0, np.True_),
        (np.array([1, 1], np.uint8), np.float64(0), np.array(True)),
        (jnp.array([1, 1]), jnp.zeros(()), jnp.array(True)),
    ],
)
def test_whatever_holds_the_values_will_do(learner, observation, reward, done):
    action, _ = learner.act(learner.reset(), observation, reward, done)
    assert action == learner.act(learner.reset(), np.array([1, 1]), 0.0, True)[0]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"observation": [3, 1]}, r"observation is \[3, 1\]: its components go from \[0, 0\]"),
        ({"observation": [1]}, r"observation has shape \(1,\): give \(2,\)"),
        ({"observation": [1.0, 1.0]}, "observation has dtype float64: give whole numbers"),
        ({"observation": [[1], [1, 2]]}, "observation is not an array"),
        ({"reward": [0.0]}, r"reward has shape \(1,\): give \(\)"),
        ({"reward": np.inf}, "reward is inf: give finite numbers"),
        ({"reward": None}, "reward has dtype object: give numbers"),
        ({"done": 1}, "done has dtype int64: give bool"),
        ({"action": 5}, "action is 5: actions are 0 to 4"),
        ({"action": -1}, "action is -1"),
        ({"action": 1.0}, "action has dtype float64"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(learner, change, message):
    given = {"observation": [1, 1], "reward": 0.0, "done": True, **change}
    with pytest.raises(UserError, match=message):
        learner.act(learner.reset(), **given)


def test_inside_jit_the_agent_is_named(learner):
    step = jax.jit(lambda done: learner.act(learner.reset(), [1, 1], 0.0, done)[0])
    with pytest.raises(UserError, match=r"use learner\.agent"):
        step(True)


@pytest.mark.parametrize("given", [{"seed": -1}, {"seed": 0.5}, {"batch": 0}, {"batch": True}])
def test_seeds_and_batches_are_checked(learner, given):
    with pytest.raises(UserError, match=next(iter(given))):
        learner.reset(**given)


def test_watching_another_is_reading_its_actions(learner):
    """Told that another action was taken, it goes on as if it had chosen that one."""
    _, state = learner.act(learner.reset(), [1, 1], 0.0, True)
    _, told = learner.act(state, [1, 0], 1.0, False, action=2)
    _, took = learner.act(state.replace(action=jnp.int32(2)), [1, 0], 1.0, False)
    assert_equal(told.memory[1], took.memory[1])


def test_the_temperature_may_be_changed_without_compiling_anew(workdir):
    """At 0, whether a number or an array, the most probable action is taken."""
    greedy = load(workdir, temperature=0.0)
    varied = load(workdir, temperature=jnp.float32(0))
    for seed in range(3):
        actions = {int(each.act(each.reset(seed), [1, 1], 0, True)[0]) for each in (greedy, varied)}
        assert len(actions) == 1


def test_evaluation_is_the_loop_of_reset_and_act(learner):
    """Oracle: the environment's own steps, one by one. The draws differ, so means are compared."""
    returns = learner.evaluate(episodes=2, rollouts=200, seed=0)
    assert returns.shape == (len(learner.tasks.heldout), 200, 2)
    params = learner.tasks.params(learner.tasks.heldout)
    env, n = learner.env, 200
    one = jax.tree.map(lambda x: x[0], params)
    step = jax.jit(jax.vmap(env.step, in_axes=(0, 0, 0, None)))
    observation, env_state = jax.vmap(env.reset, in_axes=(0, None))(
        jax.random.split(jax.random.key(1), n), one
    )
    state, reward, done = learner.reset(seed=2, batch=n), np.zeros(n), np.ones(n, bool)
    rewards, dones = [], []
    for i in range(16):
        action, state = learner.act(state, observation, reward, done)
        keys = jax.random.split(jax.random.key(10 + i), n)
        observation, env_state, reward, terminated, truncated, _ = step(
            keys, env_state, action, one
        )
        done = np.asarray(terminated | truncated)
        rewards.append(reward)
        dones.append(done)
    other = episode_returns(np.array(rewards).T, np.array(dones).T, 2)
    difference = returns[0].mean(0) - other.mean(0)
    error = np.sqrt(returns[0].var(0) / n + other.var(0) / n)
    assert (np.abs(difference) < 4 * error).all()


def test_floats_and_poses_of_pictures(tmp_path):
    written(tmp_path / "cart", cart_pole.get_config("smoke"))
    cart = load(tmp_path / "cart")
    cart.act(cart.reset(), [0.0, 1, 0, 0], 0, True)
    with pytest.raises(UserError, match="observation is NaN"):
        cart.act(cart.reset(), [0.0, np.nan, 0, 0], 0, True)
    written(tmp_path / "maze", watermaze.get_config("smoke"))
    maze = load(tmp_path / "maze")
    pose, _ = maze.env.reset(jax.random.key(0), maze.env.default_params)
    maze.act(maze.reset(batch=2), np.stack([pose, pose]), [0, 0], [True, True])


def test_what_can_not_be_loaded_is_one_clear_line(workdir, learner, tmp_path):
    with pytest.raises(UserError, match=r"no_such_name' is not a learner: give one of \["):
        load("no_such_name")
    with pytest.raises(UserError, match=r"no config\.json"):
        load(tmp_path)
    with pytest.raises(UserError, match=r"step=30: .* holds \[20, 40\]"):
        load(workdir, step=30)
    with pytest.raises(UserError, match="leave out step=40"):
        load(workdir / "checkpoints" / "20", step=40)
    (tmp_path / "config.json").write_text(learner.config.to_json())
    with pytest.raises(UserError, match="holds no checkpoint"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"env": {}}')
    with pytest.raises(UserError, match=r"not the config of a run: it has no env\.name"):
        load(tmp_path)
    with pytest.raises(UserError, match=r"ends in \.safetensors"):
        learner.save(tmp_path / "mine.npz")
    with pytest.raises(UserError, match="can't be written"):
        learner.save(tmp_path / "nowhere" / "mine.safetensors")


def test_a_damaged_file_is_noticed(learner, tmp_path):
    path = tmp_path / "mine.safetensors"
    learner.save(path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"mine\.safetensors: it is damaged"):
        load(path)
    for damaged in (content[:-9], content[:100], b"", b"not a learner at all"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"mine\.safetensors"):
            load(path)
    with pytest.raises(UserError, match="holds one learner"):
        load(path, step=3)


def test_an_older_config_is_read_under_todays_names(workdir, tmp_path, monkeypatch, learner):
    from ad_jax import config

    monkeypatch.setitem(config.RENAMED, "model.cells", "model.width")
    text = learner.config.to_json().replace('"width"', '"cells"')
    read = config.stored(json.loads(text))
    assert read.model.width == learner.config.model.width
    assert read.source.a2c.hidden == learner.config.source.a2c.hidden  # a tuple again


def test_the_package_says_what_it_has():
    assert ad_jax.load is load
    assert ad_jax.Learner is Learner
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ad_jax.nonsense
