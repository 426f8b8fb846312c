"""Files of this machine, and of a bucket; see tests/store.py for what stands in for one."""

import shutil
import threading

import numpy as np
import pytest
from etils import epath

from ad_jax.errors import UserError
from ad_jax.paths import as_path
from data_pipelines.files import atomic_write, growing, local_copy
from data_pipelines.reader import Histories


@pytest.fixture(params=["local", "bucket"])
def place(request, tmp_path, bucket):
    """(A folder as the program knows it, the folder in which its files are)."""
    if request.param == "local":
        return as_path(tmp_path), tmp_path
    shutil.rmtree(bucket[1], ignore_errors=True)
    bucket[1].mkdir()
    return as_path(bucket[0]), bucket[1]


def test_a_file_is_there_whole_or_not_at_all(place):
    path, folder = place
    with atomic_write(path / "a") as file:
        file.write_text("half ")
        assert not (folder / "a").exists()
        file.write_text("whole")
    with pytest.raises(KeyboardInterrupt), atomic_write(path / "a") as file:
        file.write_text("half ")
        raise KeyboardInterrupt
    assert [p.name for p in folder.iterdir()] == ["a"] and (folder / "a").read_text() == "whole"


def test_files_that_grow_are_published(place):
    path, folder = place
    (folder / "old").write_text("stays")
    with pytest.raises(KeyboardInterrupt), growing(path) as (local, publish):
        (local / "inner").mkdir()
        with open(local / "inner" / "a", "a") as file:
            for line in ("one\n", "two\n"):
                file.write(line)
                file.flush()
                publish()
                assert (folder / "inner" / "a").read_text().endswith(line)
            file.write("three\n")
        raise KeyboardInterrupt
    assert (folder / "inner" / "a").read_text() == "one\ntwo\nthree\n"
    assert (folder / "old").read_text() == "stays"


def test_a_copy_is_made_once_whoever_asks(bucket, monkeypatch):
    path, folder = as_path(bucket[0]) / "copied", bucket[1] / "copied"
    folder.mkdir(parents=True)
    for name in ("a", "b"):
        (folder / name).write_text(name * 9)
    read, original = [], epath.Path.read_bytes
    monkeypatch.setattr(
        type(path), "read_bytes", lambda self: read.append(self.name) or original(self)
    )
    copies = []
    ask = lambda: copies.append(local_copy(path, ("a", "b", "missing"), "key"))
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(copies) == 8 and len(set(copies)) == 1
    assert read.count("a") == read.count("b") == 1
    assert (copies[0] / "b").read_text() == "b" * 9 and not (copies[0] / "missing").exists()
    assert local_copy(path, ("a",), "another key") != copies[0]
    assert local_copy(folder, ("a",), "key") == folder


@pytest.fixture
def histories(bucket, write_histories, dark_room_schema, random_steps, request):
    """(The path of a data set in the bucket, the folder it is in, its steps); one to each test."""
    steps = random_steps(dark_room_schema, 3, 2, 800, seed=len(request.node.name))
    name = request.node.name.partition("[")[0] + str(len(request.node.name))
    write_histories(f"{bucket[0]}/{name}", dark_room_schema, [(range(3), steps)])
    return f"{bucket[0]}/{name}", bucket[1] / name, steps


def shard(folder):
    return next(p for p in folder.iterdir() if "array_record" in p.name and p.suffix != ".json")


def test_a_data_set_in_a_bucket_is_read_and_copied_once(histories):
    path, folder, steps = histories
    for _ in range(2):
        for name, values in Histories(path).read(3, np.arange(800)).items():
            np.testing.assert_array_equal(values, steps[name][1, 1])
        shard(folder).write_bytes(b"not read again")


@pytest.mark.parametrize("harm, verdict", [("gone", "missing"), ("cut", "cut short")])
def test_damage_in_a_bucket_is_named_with_what_to_remove(histories, harm, verdict):
    path, folder, _ = histories
    if harm == "gone":
        shard(folder).unlink()
    else:
        shard(folder).write_bytes(b"half of it")
    with pytest.raises(
        UserError, match=rf"is {verdict}.*: remove {path} and /.* and collect again"
    ):
        Histories(path)
