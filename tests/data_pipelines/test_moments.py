"""The mean and deviation of a data set are those of all its steps."""

import numpy as np
import pytest

from ad_jax.interfaces import History
from data_pipelines import moments
from data_pipelines.reader import Histories
from data_pipelines.schema import Schema
from data_pipelines.writer import Writer


def schema(levels=None):
    return Schema(
        observation_shape=(2, 3), observation_low=None, observation_sizes=None, num_actions=4,
        reward_levels=levels, record_steps=8,
    )  # fmt: skip


def history(rng, steps, levels):
    reward = rng.normal(-1000, 20, steps) if levels is None else rng.choice(levels, steps)
    last = np.arange(steps) % 5 == 4
    return History(
        observation=rng.normal(1e6, [[1.0], [50.0]], (steps, 2, 3)).astype(np.float32),
        action=rng.integers(0, 4, steps).astype(np.int32),
        reward=reward.astype(np.float32),
        is_first=np.roll(last, 1),
        is_last=last,
        is_terminal=np.zeros(steps, bool),
    )


@pytest.mark.parametrize("levels", [None, (-1.0, 0.0, 5.0)])
def test_a_data_set_says_the_moments_of_all_its_steps(tmp_path, levels):
    """The padding of a stream's last record does not count."""
    rng = np.random.default_rng(0)
    made = [history(rng, steps, levels) for steps in (13, 20, 7)]
    writer = Writer(tmp_path, schema(levels), 2)
    for shard, chosen in enumerate((made[:2], made[2:])):
        with writer.shard(shard, np.array([shard])) as opened:
            for stream, one in enumerate(chosen):
                opened.write_history(shard, stream, one)
    lengths = [[0, 0, 13], [0, 1, 20], [1, 0, 7]]
    writer.commit({"lengths": lengths})
    told = Histories(tmp_path).provenance["statistics"]
    observation = np.concatenate([h.observation.reshape(-1, 6) for h in made]).astype(float)
    reward = np.concatenate([h.reward for h in made]).astype(float)
    assert told["observation"]["count"] == told["reward"]["count"] == 40
    np.testing.assert_allclose(told["observation"]["mean"], observation.mean(0), rtol=1e-12)
    np.testing.assert_allclose(told["observation"]["deviation"], observation.std(0), rtol=1e-6)
    np.testing.assert_allclose(told["reward"]["mean"], reward.mean(), rtol=1e-9)
    np.testing.assert_allclose(told["reward"]["deviation"], reward.std(), rtol=1e-9)


def test_integers_have_no_scale():
    room = Schema((2,), (0, 0), (5, 5), 5, (0.0, 1.0), 4)
    fields = {"reward": np.array([0, 1, 1, 1], np.uint8), "observation": np.zeros(4, np.uint8)}
    assert moments.of_steps(room, fields) == {
        "reward": {
            "count": 4, "mean": [0.75], "deviation": [np.sqrt(0.1875)], "low": [0.0], "high": [1.0],
        }
    }  # fmt: skip


@pytest.mark.parametrize("levels", [None, (-0.1, 0.0)])
def test_what_is_always_the_same_has_no_deviation(levels):
    """Also if sums of it are rounded."""
    for steps in (3, 70, 997):
        reward = np.full(steps, -0.1, np.float32) if levels is None else np.zeros(steps, np.uint8)
        observation = np.full((steps, 2, 3), 0.3, np.float32)
        fields = {"reward": reward, "observation": observation}
        found = moments.of_steps(schema(levels), fields)
        pooled = {k: moments.pooled([v, v, v]) for k, v in found.items()}
        for measured in (*found.values(), *pooled.values()):
            assert not np.any(measured["deviation"])
