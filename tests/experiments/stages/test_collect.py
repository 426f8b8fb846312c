import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ad_jax import build
from ad_jax.envs.dark_room import DarkRoom
from ad_jax.errors import UserError
from ad_jax.evaluation.statistics import episode_returns
from data_pipelines.reader import Histories
from data_pipelines.schema import Schema
from experiments.runtime.interruption import Interrupted, Interruption
from experiments.runtime.workdir import Workdir
from experiments.stages import collect, train


class After(Interruption):
    """An interruption that comes after so many checks."""

    def __init__(self, looks):
        super().__init__()
        self._looks = looks

    @property
    def requested(self):
        self._looks -= 1
        return self._looks < 0


def test_interrupted_collection_goes_on_and_is_the_same(tmp_path, config, never):
    config.collect.tasks_per_tile = 4
    straight, broken = Workdir(tmp_path / "a", config), Workdir(tmp_path / "b", config)
    collect.run(config, straight, never)
    with pytest.raises(Interrupted):
        collect.run(config, broken, After(3))  # in the second of two tiles
    assert not collect.done(config, broken)
    assert len(list(broken.histories.glob("*array_record-*.json"))) == 1
    assert not list(broken.histories.glob("*.tmp"))
    collect.run(config, broken, never)
    shards = [json.loads((w.histories / "provenance.json").read_text())["shards"]
              for w in (straight, broken)]  # fmt: skip
    assert shards[0] == shards[1] and len(shards[0]) == 2


def test_any_number_of_devices_collects_the_same_bits(tmp_path, config, never, monkeypatch):
    """Four tiles of at most 2 of the 7 tasks: on four devices at once, or one after the other."""
    config.tasks.num_validation = 0
    config.collect.tasks_per_tile = 2
    four, one = Workdir(tmp_path / "4", config), Workdir(tmp_path / "1", config)
    collect.run(config, four, never)
    first = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: first)
    collect.run(config, one, never)
    shards = [Histories(w.histories).provenance["shards"] for w in (four, one)]
    assert shards[0] == shards[1] and len(shards[0]) == 4


def test_the_source_on_held_out_tasks_is_for_looking_at(tmp_path, config, never):
    """Nothing is trained on its histories."""
    config.collect.tasks = "heldout"
    workdir = Workdir(tmp_path / "run", config)
    collect.run(config, workdir, never)
    heldout = build.world(config).heldout
    assert set(Histories(workdir.histories).task.tolist()) == set(heldout.tolist())
    with pytest.raises(UserError, match="holds no training tasks"):
        train.run(config, workdir, never)
    config.collect.tasks = "test"
    with pytest.raises(UserError, match=r"collect\.tasks='test': choose one of"):
        collect.collected_tasks(config, build.world(config))


def test_only_training_tasks_are_trained_on(smoke_run, config, tmp_path, never, monkeypatch):
    """Histories may hold more tasks than the config trains on."""
    config.tasks.num_train = 3
    kept = []
    sampler = train.windows.make_sampler
    monkeypatch.setattr(
        train.windows, "make_sampler",
        lambda histories, **options: kept.append((histories, options["selection"]))
        or sampler(histories, **options),
    )  # fmt: skip
    workdir = Workdir(tmp_path / "run", config, histories=smoke_run[0] / "histories")
    train.run(config, workdir, never)
    ((histories, selection),) = kept
    rows = (histories.kept_episodes(selection).lengths > 0).tolist()
    chosen = np.isin(histories.task, build.world(config).train)
    assert rows == chosen.tolist() and 0 < chosen.sum() < len(rows)
    assert train.done(config, workdir) and not (tmp_path / "run" / "histories").exists()


def test_tiles_of_one_size_are_collected_together():
    assert collect.groups([0, 1, 3, 4, 5], [8, 8, 8, 8, 8, 3], 2) == [[0, 1], [3, 4], [5]]
    assert collect.groups([2], [8, 8, 8], 4) == [[2]]


def test_a_task_has_the_same_histories_whatever_is_collected_beside_it(tmp_path, config, never):
    """And only training tasks are collected, with their provenance."""
    together, apart = Workdir(tmp_path / "a", config), Workdir(tmp_path / "b", config)
    collect.run(config, together, never)
    config.collect.tasks_per_tile = 2
    config.collect.streams = 3
    collect.run(config, apart, never)
    a, b = Histories(together.histories), Histories(apart.histories)
    world = build.world(config)
    assert sorted(set(a.task.tolist())) == world.train.tolist()
    assert not set(a.task.tolist()) & set(world.heldout.tolist())
    assert a.stream.max() == 7 and b.stream.max() == 2
    for row in range(len(b.task)):
        match = int(np.flatnonzero((a.task == b.task[row]) & (a.stream == b.stream[row]))[0])
        got, want = b.read(row, np.arange(320)), a.read(match, np.arange(320))
        np.testing.assert_array_equal(got["action"][:8], want["action"][:8])
    provenance = a.provenance
    assert provenance["config"]["seed"] == 0 and provenance["environment"]["version"] == "1.0.0"
    assert provenance["packages"]["jax"] == jax.__version__
    rows = [a.read(r, np.arange(320)) for r in range(len(a.task))]
    returns = episode_returns(
        np.stack([r["reward"] for r in rows]), np.stack([r["is_last"] for r in rows]), 40
    )
    np.testing.assert_allclose(provenance["mean_return_by_episode"], returns.mean(0))


def test_returns_by_episode_across_chunks():
    rng = np.random.default_rng(0)
    schema = Schema((2,), (0, 0), (3, 3), 5, (0.0, 1.0), 30)
    reward = rng.integers(0, 2, (3, 4, 90)).astype(np.uint8)
    is_last = rng.random((3, 4, 90)) < np.array([0.15, 0.3, 0.6])[:, None, None]
    action = rng.integers(0, 5, (3, 4, 90))
    action[1, :, :30] = 2
    statistics = collect.TileStatistics(3, 4, 90, schema)
    for begin in range(0, 90, 30):
        part = slice(begin, begin + 30)
        statistics.add({"reward": reward[..., part], "is_last": is_last[..., part],
                        "action": action[..., part]})  # fmt: skip
    summary = statistics.summary()
    whole = is_last.sum(-1).min()
    want = episode_returns(reward.astype(float), is_last, whole).mean(1)
    np.testing.assert_allclose(summary["mean_return"], want)
    assert summary["first_action_share"][1] == 1 and summary["first_action_share"][0] < 0.5
    for task in range(3):  # by its own number of episodes
        episodes = is_last[task].sum(-1).min()
        own = episode_returns(reward[task].astype(float), is_last[task], episodes).mean(0)
        tenth = max(1, episodes // 10)
        np.testing.assert_allclose(summary["early"][task], own[:tenth].mean())
        np.testing.assert_allclose(summary["late"][task], own[-tenth:].mean())
        np.testing.assert_allclose(summary["final"][task], own[-tenth:].mean())


def test_a_single_trial_is_judged_by_its_steps():
    schema = Schema((), (0,), (1,), 2, (0.0, 1.0), 20)
    statistics = collect.TileStatistics(2, 1, 40, schema)
    reward = np.zeros((2, 1, 40), np.uint8)
    reward[0, 0, 36:] = 1
    is_last = np.arange(40) == 39
    for begin in (0, 20):
        part = slice(begin, begin + 20)
        statistics.add({"reward": reward[..., part], "action": reward[..., part],
                        "is_last": np.tile(is_last[part], (2, 1, 1))})  # fmt: skip
    summary = statistics.summary()
    assert summary["early"] == [0, 0] and summary["late"] == [4, 0]
    assert summary["mean_return"] == [[4], [0]] and summary["final"] == [4, 0]


FAULTS = {
    "NaN": (lambda o, r: (o, jnp.nan), "rewards that are NaN"),
    "infinite": (lambda o, r: (o, jnp.inf), "rewards that are NaN or infinite"),
    "undeclared": (lambda o, r: (o, 0.5), r"reward_levels \(0\.0, 1\.0\)"),
    "outside": (lambda o, r: (o + 9, r), "observations outside"),
    "below": (lambda o, r: (o - 9, r), "observations outside"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_stored_is_refused_by_task(tmp_path, config, never, monkeypatch, fault):
    """One task of the second tile is at fault; the first tile's shard is kept."""
    spoil, message = FAULTS[fault]
    config.collect.tasks_per_tile = 4
    world = build.world(config)
    task = int(collect.collected_tasks(config, world)[4])
    bad = world.tasks.params(np.array([task]))
    original = DarkRoom.step_env

    def step_env(self, key, state, action, params):
        observation, state, reward, done, info = original(self, key, state, action, params)
        is_bad = jnp.array(True)
        for mine, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(bad), strict=True):
            is_bad &= jnp.all(mine == theirs[0])
        spoilt = spoil(observation, reward)
        observation, reward = jax.tree.map(
            lambda x, y: jnp.where(is_bad, x, y).astype(y.dtype), spoilt, (observation, reward)
        )
        return observation, state, reward, done, info

    monkeypatch.setattr(DarkRoom, "step_env", step_env)
    first = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: first)
    workdir = Workdir(tmp_path, config)
    with pytest.raises(UserError, match=f"{world.env.name} gave .*{message}.*in task {task}") as e:
        collect.run(config, workdir, never)
    assert "\n" not in str(e.value)
    assert len(list(workdir.histories.glob("*array_record-*.json"))) == 1
    assert not list(workdir.histories.glob("*.tmp"))


def test_histories_without_learning_are_refused_by_task():
    tasks, early = np.arange(100, 140), np.full(40, 1.0)
    shares, late = np.full(40, 0.3), np.full(40, 2.0)
    check = lambda late: collect.check_quality(tasks, early, late, shares, 0.95)
    check(late)
    late[[3, 7]] = 1.0
    check(late)  # 38 of 40
    late[11] = 0.0
    with pytest.raises(UserError, match=r"3 of 40 tasks \(103, 107, 111\)"):
        check(late)
    with pytest.raises(UserError, match=r"40 of 40 tasks"):
        check(np.full(40, np.nan))
    shares[5] = 0.99
    with pytest.raises(UserError, match=r"one action.*1 tasks \(105\)"):
        check(np.full(40, 2.0))


def test_a_source_that_does_not_learn_is_refused(tmp_path, config, never):
    config.source.ppo.learning_rate = 0.0
    config.collect.min_improved = 0.99
    workdir = Workdir(tmp_path, config)
    with pytest.raises(UserError, match="did not improve"):
        collect.run(config, workdir, never)
    assert not collect.done(config, workdir)
