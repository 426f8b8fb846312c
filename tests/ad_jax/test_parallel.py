import jax
import numpy as np
import pytest

from ad_jax import parallel
from ad_jax.errors import UserError


def test_mesh_takes_the_devices_asked_for():
    assert parallel.make_mesh().size == jax.device_count() == 4
    assert parallel.make_mesh(2).size == 2
    with pytest.raises(UserError, match=r"mesh\.data=5.*4 devices"):
        parallel.make_mesh(5)


def test_sharded_spreads_the_first_axis_and_replicated_copies():
    mesh = parallel.make_mesh(4)
    x = np.arange(8)
    spread = jax.device_put(x, parallel.sharded(mesh))
    assert [s.data.tolist() for s in spread.addressable_shards] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    copied = jax.device_put(x, parallel.replicated(mesh))
    assert [s.data.shape for s in copied.addressable_shards] == [(8,)] * 4


def test_sizes_that_do_not_divide_are_refused():
    mesh = parallel.make_mesh(4)
    parallel.check_divides(mesh, 8, "train.batch_size")
    with pytest.raises(UserError, match=r"train\.batch_size=6.*4 devices"):
        parallel.check_divides(mesh, 6, "train.batch_size")


def test_tasks_are_padded_with_the_last_one():
    mesh = parallel.make_mesh(4)
    assert parallel.pad_tasks(mesh, np.array([3, 5, 7, 9, 11])).tolist() == [
        3,
        5,
        7,
        9,
        11,
        11,
        11,
        11,
    ]
    assert parallel.pad_tasks(mesh, np.arange(4)).tolist() == [0, 1, 2, 3]
