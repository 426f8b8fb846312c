"""The dynamics and the tasks of Watermaze, and its three forms: poses, features and frames."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import environment

from ad_jax.actions import Actions
from ad_jax.envs import raycast, registry
from ad_jax.envs.tasks import MAX_TASK_ID, TaskDistribution
from ad_jax.envs.watermaze import EnvState, PixelWatermaze, PoseWatermaze, Watermaze
from ad_jax.errors import UserError
from ad_jax.evaluation.agents import has_optimal_agent
from ad_jax.models.base import SequenceModel
from ad_jax.models.lstm import LSTMConfig
from ad_jax.sources.dqn import DQNConfig, dqn
from ad_jax.sources.ppo import PPOConfig, ppo

AHEAD, BACK, LEFT, RIGHT, TURN_LEFT, TURN_RIGHT, AHEAD_LEFT, AHEAD_RIGHT = range(8)
SCALE, TURN = 16, 65536
FAR_AWAY = (-500.0, 0.0)
THETA = np.arange(16) * 2 * np.pi / 16
NORMALS = np.stack([np.cos(THETA), np.sin(THETA)], -1)


@functools.cache
def build(kind=Watermaze, **kwargs):
    """An environment; the same one for the same arguments, so that it is compiled only once."""
    return kind(**kwargs)


def platform_at(env, x_y):
    return env.default_params.replace(platform=jnp.array(x_y, jnp.float32))


def state_at(pose):
    """A player at rest, at the beginning of an episode."""
    return EnvState(
        pose=jnp.array(pose, jnp.int32),
        velocity=jnp.zeros(2),
        stage=jnp.int32(0),
        time=jnp.int32(0),
    )


@functools.cache
def player(env):
    """A compiled rollout of 60 given actions from a given state: what ``step`` returned."""

    @jax.jit
    def play(key, state, params, actions):
        def step(state, key_and_action):
            returned = env.step(key_and_action[0], state, key_and_action[1], params)
            return returned[1], returned

        return jax.lax.scan(step, state, (jax.random.split(key, 60), actions))[1]

    return play


def walk(env, params, actions, start=(0, 0, 0), seed=0):
    """What ``step`` returned for each of at most 60 actions."""
    padded = np.append(actions, [BACK] * (60 - len(actions))).astype(np.int32)
    steps = player(env)(jax.random.key(seed), state_at(start), params, padded)
    return jax.tree.map(lambda x: np.asarray(x)[: len(actions)], steps)


@functools.cache
def rewards_of_policies(num=800):
    """Rewards [policy, task, step] of one episode per task: of the expert and of random actions."""
    env = build()

    def episode(is_expert, key, params):
        key_reset, key = jax.random.split(key)
        _, state = env.reset(key_reset, params)

        def step(state, key):
            random = jax.random.randint(key, (), 0, 8)
            action = jnp.where(is_expert, env.shortest_path_action(state, params), random)
            _, state, reward, *_ = env.step(key, state, action, params)
            return state, reward

        return jax.lax.scan(step, state, jax.random.split(key, 50))[1]

    per_task = jax.vmap(episode, in_axes=(None, 0, 0))
    over_both = jax.jit(jax.vmap(per_task, in_axes=(0, None, None)))
    keys = jax.random.split(jax.random.key(0), num)
    return np.asarray(over_both(np.array([True, False]), keys, env.tasks().params(np.arange(num))))


def units(poses):
    return np.asarray(poses)[..., :2] / SCALE


# What gymnax and the sources expect.


def test_step_returns_the_six_values_of_gymnax():
    env = build()
    assert isinstance(env, environment.Environment)
    observation, state, reward, terminated, truncated, info = walk(env, env.default_params, [AHEAD])
    assert observation.shape == (1, 3) and observation.dtype == np.int32
    np.testing.assert_array_equal(observation, state.pose)
    assert (reward.dtype, terminated.dtype, truncated.dtype) == (np.float32, bool, bool)
    assert state.time.tolist() == [1]
    assert {"terminated", "truncated", "final_observation", "privileged_observation"} == set(info)


@functools.cache
def crowd():
    """40 players on random walks that often hit walls: (actions, starts, what step returned)."""
    env = build()
    rng = np.random.default_rng(0)
    actions = rng.choice([AHEAD, AHEAD, AHEAD, TURN_LEFT, AHEAD_LEFT, BACK, RIGHT], (40, 60))
    starts = np.concatenate(
        [rng.integers(-8000, 8000, (40, 2)), rng.integers(TURN, size=(40, 1))], 1
    )
    states = jax.vmap(state_at)(starts)
    play = jax.jit(jax.vmap(player(env), in_axes=(None, 0, None, 0)))
    steps = play(jax.random.key(0), states, platform_at(env, FAR_AWAY), actions.astype(np.int32))
    return actions, starts, jax.device_get(steps)


def test_observations_lie_in_their_spaces():
    env, (_, _, (pose, state, *_, info)) = build(), crowd()
    space, privileged = env.observation_space(), env.privileged_observation_space()
    over_all = lambda contains: jax.vmap(jax.vmap(contains))
    assert np.all(over_all(space.contains)(pose))
    assert np.all(over_all(env.state_space(env.default_params).contains)(state))
    seen = info["privileged_observation"]
    assert seen.shape[2:] == privileged.shape and seen.dtype == privileged.dtype
    assert np.all(over_all(privileged.contains)(seen))
    # They fit into the stored dtypes: int16, int16, uint16.
    assert np.all(pose[..., :2].astype(np.int16) == pose[..., :2])
    assert np.all(pose[..., 2].astype(np.uint16) == pose[..., 2])
    assert max(space.high[:2]) < 2**15 and space.high[2] == 2**16 - 1
    assert env.num_actions == env.action_space().n == 8


def test_privileged_observation_is_the_state_before_the_reset():
    env = build()
    params = platform_at(env, FAR_AWAY).replace(max_steps_in_episode=jnp.int32(3))
    _, state, _, _, _, info = walk(env, params, [AHEAD] * 4, (0, 0, TURN // 8))
    seen, final = info["privileged_observation"], info["final_observation"]
    np.testing.assert_allclose(seen[:, :2], units(final) / 760, atol=1e-6)
    np.testing.assert_allclose(seen[:3, 2:4], np.sqrt(0.5), atol=1e-6)
    assert np.all(np.diff(seen[:3, 4]) > 0) and not np.any(state.velocity[2])
    assert state.time.tolist() == [1, 2, 0, 1]
    assert not np.any(state.pose[2, :2])


def test_a_source_can_see_the_privileged_observation():
    """The history still holds poses."""
    env = build()
    source = ppo(env, PPOConfig(num_streams=2, rollout_steps=5, num_epochs=1, privileged=True))
    state = jax.eval_shape(source.init, jax.random.key(0), env.default_params)
    _, block = jax.eval_shape(source.step, state)
    assert block.observation.shape == (2, 5, 3) and block.observation.dtype == jnp.int32


@pytest.mark.parametrize("kind", [Watermaze, PixelWatermaze])
def test_make_finds_them_by_name(kind):
    env, tasks = registry.make(kind.__name__)
    assert type(env) is kind and isinstance(tasks, TaskDistribution)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("goal_mode", "sink"),
        ("start", "corner"),
        ("start", None),
        ("start", (1, 2)),
        ("start", (0.5, 0, 0)),
        ("start", (12000, 0, 0)),  # in the wall
        ("start", (0, 0, TURN)),
        ("action_repeat", 0),
        ("max_steps_in_episode", 2.0),
        ("colour", "red"),
    ],
)
def test_bad_arguments_are_user_errors(name, value):
    with pytest.raises(UserError, match=rf"Watermaze.*{name}"):
        registry.make("Watermaze", **{name: value})


# Motion.


def test_a_straight_run():
    """Friction and acceleration at 60 Hz: 7.2, 16.1, 20.4 and then 20.48 units per step."""
    env = build()
    pose, *_ = walk(env, platform_at(env, FAR_AWAY), [AHEAD] * 8)
    x, y = units(pose).T
    np.testing.assert_allclose(np.diff(x, prepend=0), [7.2, 16.1, 20.4] + [20.48] * 5, atol=0.05)
    assert not np.any(y)


@pytest.mark.parametrize(
    ("action", "direction", "turns"),
    [
        (AHEAD, 0, 0),
        (BACK, 180, 0),
        (LEFT, 90, 0),
        (RIGHT, -90, 0),
        (TURN_LEFT, None, 1),
        (TURN_RIGHT, None, -1),
        (AHEAD_LEFT, 5, 1),
        (AHEAD_RIGHT, -5, -1),
    ],
)
def test_actions(action, direction, turns):
    """Directions count counterclockwise from the view direction; a turn is 8.448 degrees."""
    yaw = 10 * TURN // 360
    env = build()
    pose, *_ = walk(env, platform_at(env, FAR_AWAY), [action], (0, 0, yaw))
    x, y = units(pose)[0]
    assert (pose[0, 2] - yaw) * 360 / TURN == pytest.approx(8.448 * turns, abs=0.003)
    if direction is None:
        assert x == y == 0
    else:
        assert np.hypot(x, y) == pytest.approx(7.2, abs=0.1)
        apart = (np.degrees(np.arctan2(y, x)) - 10 - direction + 180) % 360 - 180
        assert apart == pytest.approx(0, abs=2)


def test_the_yaw_wraps():
    actions = [TURN_RIGHT] * 2 + [TURN_LEFT] * 2
    pose, *_ = walk(build(), platform_at(build(), FAR_AWAY), actions, (0, 0, 700))
    assert pose[:, 2].tolist() == [700 - 1538 + TURN, 700 - 2 * 1538 + TURN, 700 - 1538 + TURN, 700]


def test_a_player_that_lets_go_comes_to_rest():
    actions = [AHEAD] * 4 + [TURN_LEFT] * 12
    pose, state, *_ = walk(build(), platform_at(build(), FAR_AWAY), actions)
    x = units(pose)[:, 0]
    assert x[4] - x[3] > 5  # it glides
    np.testing.assert_array_equal(pose[-3, :2], pose[-1, :2])
    assert not np.any(state.velocity[-1])


def test_ticks_per_action_are_a_parameter():
    """Two steps of two ticks equal one step of four, up to rounding."""
    runs = []
    for repeat, steps in ((4, 6), (2, 12)):
        env = build(action_repeat=repeat)
        runs.append(walk(env, platform_at(env, FAR_AWAY), [AHEAD_LEFT] * steps)[0][-1])
    np.testing.assert_allclose(units(runs[0]), units(runs[1]), atol=0.7)
    assert abs(runs[0][2] - runs[1][2]) <= 6


@pytest.mark.parametrize("degrees", [0, 11.25, 30, 100, 190, 305])
def test_walls_hold(degrees):
    """Also in corners (at 11.25 degrees). The player stays 15 units away from every wall."""
    start = (0, 0, round(degrees * TURN / 360))
    pose, *_ = walk(build(), platform_at(build(), FAR_AWAY), [AHEAD] * 49, start)
    outwards = np.max(units(pose) @ NORMALS.T, -1)
    assert np.max(outwards) <= 745 + 1 / SCALE
    assert outwards[-1] == pytest.approx(745, abs=1 / SCALE)


def test_a_player_slides_along_a_wall():
    start = (740 * SCALE, 0, TURN // 8)  # at 45 degrees to the wall
    pose, *_ = walk(build(), platform_at(build(), FAR_AWAY), [AHEAD] * 6, start)
    x, y = units(pose).T
    np.testing.assert_allclose(x[1:], 745, atol=1 / SCALE)
    # Its speed along the wall is that component of the running speed: speed is limited in the view
    # direction, and the wall removes the component that points into it.
    assert np.all(np.diff(y) > 11) and np.all(np.diff(y) < 30)


def test_a_random_player_stays_inside():
    pose = crowd()[-1][0]
    assert np.max(units(pose) @ NORMALS.T) <= 745 + 1 / SCALE
    assert np.max(units(pose) @ NORMALS.T) > 744  # some reached a wall


def test_one_player_moves_as_it_does_among_many():
    actions, starts, (together, *_) = crowd()
    params = platform_at(build(), FAR_AWAY)
    for i in range(3):  # to the end of the episode, after which starts are random
        alone, *_ = walk(build(), params, actions[i, :49], starts[i])
        np.testing.assert_allclose(together[i, :49], alone, atol=1)


# Starts.


def test_episodes_start_in_the_centre_with_any_yaw():
    env = build()
    keys = jax.random.split(jax.random.key(0), 1000)
    pose, state = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))(keys, env.default_params)
    assert not np.any(pose[:, :2]) and not np.any(state.velocity)
    counts, _ = np.histogram(pose[:, 2], bins=8, range=(0, TURN))
    assert counts.min() > 80


def test_random_starts_are_uniform_in_the_disc():
    env = build(start="random")
    keys = jax.random.split(jax.random.key(0), 4000)
    pose, _ = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))(keys, env.default_params)
    assert_uniform_in_disc(units(pose))


def assert_uniform_in_disc(points, radius=580):
    """Area and angle are uniform: Kolmogorov-Smirnov, with about 1 false alarm in 10,000."""
    area = (points**2).sum(-1) / radius**2
    angle = np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi) + 0.5
    assert area.max() <= 1.001
    for sample in (area, angle):
        steps = np.arange(len(sample) + 1) / len(sample)
        ordered = np.sort(sample)
        distance = max(np.max(np.abs(ordered - steps[:-1])), np.max(np.abs(ordered - steps[1:])))
        assert distance < 2.2 / np.sqrt(len(sample))
    assert abs(np.corrcoef(area, angle)[0, 1]) < 4 / np.sqrt(len(area))


# Tasks.


def test_platforms_are_uniform_in_their_disc():
    tasks = build().tasks()
    assert tasks.num_tasks is None
    assert_uniform_in_disc(np.asarray(tasks.params(np.arange(5000)).platform))


def test_a_task_is_a_function_of_its_id():
    tasks = build().tasks()
    ids = np.array([70, 3, MAX_TASK_ID - 1, 70], np.int32)
    platforms = np.asarray(tasks.params(ids).platform)
    np.testing.assert_array_equal(platforms[0], platforms[3])
    assert len(np.unique(platforms, axis=0)) == 3
    for i, task_id in enumerate(ids):
        alone = tasks.params(np.array([task_id])).platform[0]
        np.testing.assert_array_equal(alone, platforms[i])
    # A data set stores only the ids of its tasks: if these platforms change, change `version`.
    golden = [[-495.43649, 227.35089], [92.725304, -17.156307]]
    np.testing.assert_allclose(tasks.params(np.array([0, 1])).platform, golden, rtol=1e-6)


def test_params_look_like_the_default_task():
    env = build()
    batch = env.tasks().params(np.arange(4))
    for leaf, default in zip(
        jax.tree.leaves(batch), jax.tree.leaves(env.default_params), strict=True
    ):
        assert leaf.shape == (4, *default.shape) and leaf.dtype == default.dtype


# What the platform does.


def rewards_and_more(goal_mode, actions, platform=(100.0, 0.0), limit=50):
    env = build(goal_mode=goal_mode, start=(0, 0, 0))
    params = platform_at(env, platform).replace(max_steps_in_episode=jnp.int32(limit))
    pose, state, reward, terminated, _, info = walk(env, params, actions)
    return pose, state, reward.tolist(), terminated.tolist(), info


# On the platform from the second step on, off it again, and back.
THERE_AND_BACK = [AHEAD] * 3 + [BACK] * 6 + [AHEAD] * 7


def on_platform(poses, platform=(100.0, 0.0)):
    return np.linalg.norm(units(poses) - platform, axis=-1) <= 79


def test_once_pays_the_first_time_in_an_episode():
    pose, state, reward, terminated, _ = rewards_and_more("once", THERE_AND_BACK)
    assert reward == [0, 1] + [0] * 14
    assert state.stage.tolist() == [0] + [1] * 15
    assert not any(terminated)
    on = on_platform(pose)
    assert on[1] and not np.all(on[3:]) and on[-1]  # it came back, without a reward


def test_once_pays_again_in_the_next_episode():
    _, state, reward, *_ = rewards_and_more("once", [AHEAD] * 8, limit=4)
    assert reward == [0, 1, 0, 0] * 2
    assert state.stage.tolist() == [0, 1, 1, 0] * 2


def test_stay_pays_on_every_step_on_the_platform():
    pose, _, reward, terminated, _ = rewards_and_more("stay", THERE_AND_BACK)
    assert reward == on_platform(pose).astype(float).tolist()
    assert reward[1] == reward[2] == reward[-1] == 1 and 0 in reward[3:]
    assert not any(terminated)


def test_terminate_ends_the_episode():
    pose, state, reward, terminated, info = rewards_and_more("terminate", [AHEAD] * 6)
    assert reward == [0, 1] * 3
    assert terminated == [False, True] * 3
    assert pose[1].tolist() == [0, 0, 0] and state.time.tolist() == [1, 0] * 3
    assert on_platform(info["final_observation"]).tolist() == [False, True] * 3


def test_terminate_next_ends_the_episode_one_step_later():
    """So a model sees the place that paid together with its reward."""
    pose, state, reward, terminated, _ = rewards_and_more("terminate_next", [AHEAD] * 6)
    assert reward == [0, 1, 0] * 2
    assert terminated == [False, False, True] * 2
    assert on_platform(pose).tolist() == [False, True, False] * 2
    assert state.stage.tolist() == [0, 1, 0] * 2 and state.time.tolist() == [1, 2, 0] * 2


def test_respawn_puts_the_player_elsewhere_and_pays_again():
    pose, state, reward, terminated, _ = rewards_and_more("respawn", [AHEAD] * 50)
    assert reward[:3] == [0, 1, 0] and not any(terminated)
    jumps = np.linalg.norm(np.diff(units(pose), axis=0), axis=-1) > 25
    assert jumps[0] and not np.any(state.velocity[1]) and state.pose[1, 2] != 0
    # The same with a platform that was found before.
    env = build(goal_mode="respawn", start=(0, 0, 0))
    state = state_at((0, 0, 0)).replace(stage=jnp.int32(1))
    params, actions = platform_at(env, (100.0, 0.0)), jnp.full(60, AHEAD)
    _, _, again, *_ = player(env)(jax.random.key(0), state, params, actions)
    assert again[:3].tolist() == [0, 1, 0]


@pytest.mark.parametrize(("x", "found"), [(86.15, True), (86.3, False)])
def test_the_platform_ends_79_units_from_its_centre(x, found):
    """The first step goes 7.1875 units ahead."""
    _, _, reward, *_ = rewards_and_more("once", [AHEAD], platform=(x, 0.0))
    assert reward == [float(found)]


def test_episodes_are_truncated_at_the_limit():
    *_, terminated, truncated, _ = walk(build(), platform_at(build(), FAR_AWAY), [TURN_LEFT] * 60)
    assert np.flatnonzero(truncated).tolist() == [49] and not np.any(terminated)


def test_the_expert_always_finds_the_platform():
    env, rewards = build(), rewards_of_policies()[0]
    assert rewards.sum(1).min() == rewards.sum(1).max() == 1
    assert 16 <= np.median(rewards.argmax(1) + 1) <= 18
    params = env.tasks().params(np.arange(5))
    np.testing.assert_array_equal(jax.vmap(env.optimal_return)(params), np.ones(5))


@pytest.mark.parametrize(
    "kwargs", [{"goal_mode": "stay"}, {"start": "random"}, {"max_steps_in_episode": 20}]
)
def test_no_optimum_is_claimed_where_none_is_known(kwargs):
    env = build(**kwargs)
    assert env.optimal_return(env.default_params) is None


def test_a_random_player_finds_it_rarely():
    assert 0.05 < rewards_of_policies()[1].sum(1).mean() < 0.12


# Frames.


def test_the_platform_is_invisible():
    """The same walk in 100 tasks shows the same poses, and a step in each shows the same frame."""
    env, pixels = build(), build(PixelWatermaze)
    params = env.tasks().params(np.arange(100))
    each = [jax.tree.map(lambda x, i=i: x[i], params) for i in range(100)]
    walks = [walk(env, params, [AHEAD_LEFT] * 15) for params in each]
    assert all(np.array_equal(walks[0][0], other[0]) for other in walks)
    assert any(not np.array_equal(walks[0][2], other[2]) for other in walks)  # but rewards differ

    key, state = jax.random.key(0), state_at(walks[0][0][-1])
    frames = [pixels.step(key, state, AHEAD, params)[0] for params in each]
    assert all(np.array_equal(frames[0], other) for other in frames)


def test_pixel_watermaze_shows_what_the_poses_of_watermaze_show():
    """Oracle: the rendered poses, across episode ends; also the last frame before a reset."""
    actions = np.random.default_rng(0).integers(8, size=10)
    poses, pixels = build(), build(PixelWatermaze)
    params = poses.default_params.replace(max_steps_in_episode=jnp.int32(4))
    pose, state, *rest, info = walk(poses, params, actions)
    frame, pixel_state, *pixel_rest, pixel_info = walk(pixels, params, actions)
    assert frame.shape == (10, 72, 96, 3) and frame.dtype == np.uint8
    np.testing.assert_array_equal(poses.render_observation(pose), frame)
    final, pixel_final = info.pop("final_observation"), pixel_info.pop("final_observation")
    np.testing.assert_array_equal(poses.render_observation(final), pixel_final)
    assert np.any(pixel_final[3] != frame[3]) and np.all(pixel_final[4] == frame[4])
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
        (state, rest, info),
        (pixel_state, pixel_rest, pixel_info),
    )
    space = pixels.observation_space()
    assert space.shape == raycast.FRAME_SHAPE
    assert np.all(jax.vmap(space.contains)(frame))


def test_pose_watermaze_shows_the_poses_as_features():
    """Oracle: the poses, across episode ends. Its expert acts like the expert that sees poses."""
    actions = np.random.default_rng(0).integers(8, size=10)
    poses, features = build(), build(PoseWatermaze)
    params = poses.default_params.replace(max_steps_in_episode=jnp.int32(4))
    pose, *rest = walk(poses, params, actions)
    seen, *seen_rest = walk(features, params, actions)
    yaw = 2 * np.pi * pose[:, 2] / raycast.TURN
    want = [*(units(pose) / raycast.APOTHEM).T, np.cos(yaw), np.sin(yaw)]
    np.testing.assert_allclose(seen, np.stack(want, -1), atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, rest[:-1], seen_rest[:-1])
    assert np.all(jax.vmap(features.observation_space().contains)(seen))
    expert = lambda env, seen: jax.vmap(env.expert_action, (0, None))(seen, params)
    np.testing.assert_array_equal(expert(features, seen), expert(poses, pose))


def test_pixel_watermaze_observes_what_step_env_shows():
    env = build(PixelWatermaze)
    key, params = jax.random.key(1), env.default_params

    @jax.jit
    def step(key):
        first, state = env.reset(key, params)
        frame, state, *_ = env.step_env(key, state, jnp.int32(AHEAD), params)
        return first, frame, env.observe(key, state, AHEAD, params)

    first, frame, observed = step(key)
    np.testing.assert_array_equal(frame, observed)
    assert np.any(first != frame)


def test_models_and_learners_run_on_frames():
    """They read the frames as they are, and do not try to render them again."""
    env = build(PixelWatermaze)
    assert not hasattr(env, "render_observation") and not has_optimal_agent(env)
    source = dqn(
        env,
        DQNConfig(
            num_streams=2, rollout_steps=3, updates_per_rollout=1, batch_size=2, sequence_steps=2,
            replay_steps=12, hidden=(4,), encoder="pooled",
        ),
    )  # fmt: skip
    _, history = jax.jit(source.step)(source.init(jax.random.key(0), env.default_params))
    assert history.observation.shape == (2, 3, 72, 96, 3)
    assert history.observation.dtype == np.uint8

    config = LSTMConfig(width=8, hidden=8, mlp_width=8, context=4)
    model = SequenceModel(config, env.observation_space(), Actions.of(env))
    steps = (history.observation, history.action, history.reward, history.is_first)
    logits = jax.jit(lambda key: model.apply(model.init(key, *steps), *steps))(jax.random.key(0))
    assert logits.shape == (2, 3, env.num_actions) and np.isfinite(logits).all()


def test_a_rollout_draws_one_frame_per_step():
    """It draws a second one only if the last frames of episodes are used."""
    env = build(PixelWatermaze)

    def frames_drawn(look):
        def step(key, state):
            return look(*env.step(key, state, jnp.int32(AHEAD), env.default_params))

        lowered = jax.jit(step).lower(jax.random.key(0), state_at((0, 0, 0)))
        return lowered.compile().as_text().count(" u8[72,96,4]{")

    once = frames_drawn(lambda frame, *_: frame)
    twice = frames_drawn(lambda frame, *rest: (frame, rest[-1]["final_observation"]))
    assert twice == 2 * once > 0
