"""Synthetic histories on disk."""

import numpy as np
import pytest

from ad_jax.envs.dark_room import DarkRoom
from data_pipelines.schema import Schema
from data_pipelines.writer import Writer


@pytest.fixture(scope="session")
def dark_room_schema():
    """The schema of the 9×9 Dark Room, with 20 episodes in a record."""
    return Schema.of(DarkRoom(), record_steps=400)


@pytest.fixture(scope="session")
def random_steps():
    """``random_steps(schema, tasks, streams, steps, episode, seed)``: encoded steps, all random.

    Fields are [task, stream, steps], as ``Schema.encode`` returns them. Random steps can't be
    compressed, so a size measured on them is an upper bound.
    """

    def make(schema, tasks, streams, steps, episode=20, seed=0):
        rng = np.random.default_rng(seed)
        shape = tasks, streams, steps
        number = lambda high, dtype: rng.integers(high, size=shape).astype(dtype)
        time = np.broadcast_to(np.arange(steps), shape)
        is_last = time % episode == episode - 1
        return {
            "observation": number(np.prod(schema.observation_sizes), schema.observation_dtype),
            "action": number(schema.num_actions, np.uint8),
            "reward": number(len(schema.reward_levels), np.uint8),
            "is_first": time % episode == 0,
            "is_last": is_last,
            "is_terminal": is_last & (number(2, bool)),
        }

    return make


@pytest.fixture(scope="session")
def write_histories():
    """``write_histories(folder, schema, shards)``: a finished data set.

    ``shards`` is a list of (task ids, encoded steps [task, stream, steps, ...]); the steps are
    written block by block.
    """

    def write(folder, schema, shards, provenance=()):
        writer = Writer(folder, schema, len(shards))
        for i, (tasks, steps) in enumerate(shards):
            with writer.shard(i, np.array(tasks)) as shard:
                for start in range(0, steps["action"].shape[2], schema.record_steps):
                    stop = start + schema.record_steps
                    shard.write({k: v[:, :, start:stop] for k, v in steps.items()})
        writer.commit(dict(provenance))
        return folder

    return write
