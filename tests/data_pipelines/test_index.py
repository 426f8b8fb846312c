"""The index of a shard says where everything is, and is small if episodes are equally long."""

import numpy as np
import pytest

from data_pipelines.index import Index, joined


def test_records_and_runs_are_found_in_any_order():
    where = np.array([[7, 0, 0], [2, 1, 10], [7, 0, 10], [2, 1, 0], [3, 0, 0]], np.int32)
    starts = [np.array(s) for s in ([0, 4, 8], [11, 15], [12, 16], [0, 5], [])]
    index = Index.of(where, starts)
    assert index.task.tolist() == [2, 3, 7] and index.stream.tolist() == [1, 0, 0]
    assert index.records.tolist() == [2, 1, 2]
    assert index.record.tolist() == [3, 1, 4, 0, 2]
    # Task 2: lengths 5, 6, 4 and a last one; task 7: four of length 4, and a last one.
    assert index.runs.tolist() == [4, 0, 2]
    assert index.begin.tolist() == [0, 5, 11, 15, 0, 16]
    assert index.count.tolist() == [1, 1, 1, 1, 4, 1]


@pytest.mark.parametrize("episodes", [10, 1000])
def test_episodes_of_one_length_are_two_runs(episodes):
    starts = [np.arange(episodes) * 20]
    assert len(Index.of(np.array([[0, 0, 0]], np.int32), starts).begin) == 2


def test_no_record():
    index = Index.of(np.zeros((0, 3), np.int32), [])
    assert all(len(values) == 0 for values in index)


def test_it_comes_back_and_has_the_same_bytes(tmp_path):
    index = Index.of(np.array([[0, 0, 0], [0, 0, 9]], np.int32), [np.array([0]), np.array([9])])
    index.save(tmp_path / "a")
    index.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    for found, want in zip(Index.load(tmp_path / "a", ""), index, strict=True):
        np.testing.assert_array_equal(found, want)


def test_numbers_of_records_go_on_from_shard_to_shard():
    one = Index.of(np.array([[0, 0, 5], [0, 0, 0]], np.int32), [np.array([]), np.array([0])])
    both = joined([one, one._replace(task=one.task + 1)], [2, 2])
    assert both.record.tolist() == [1, 0, 3, 2] and both.task.tolist() == [0, 1]
