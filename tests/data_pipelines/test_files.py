"""Local files, and files in a bucket (a stand-in for one is in tests/store.py)."""

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from etils import epath

from ad_jax.errors import UserError
from ad_jax.paths import as_path
from data_pipelines.files import Lease, atomic_write, growing, local_copy, remove_abandoned
from data_pipelines.reader import Histories


@pytest.fixture(params=["local", "bucket"])
def place(request, tmp_path, bucket):
    """(A folder's path as the program sees it, the local folder that holds its files)."""
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
    """(Path of a data set in the bucket, its local folder, its steps); one for each test."""
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


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    """The last one to finish wins, and each writes a whole file."""
    path = tmp_path / "shard"
    with atomic_write(path) as first:
        first.write_text("first")
        with atomic_write(path) as second:
            assert second != first
            second.write_text("second")
        assert path.read_text() == "second" and first.read_text() == "first"
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]


def test_only_abandoned_temporary_files_are_removed(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    name = lambda host, pid: tmp_path / f"shard.{host}-{pid}-0123abcd.tmp"
    here = platform.node()
    gone, alive = name(here, child.pid), name(here, os.getpid())
    elsewhere, old = name("elsewhere", child.pid), tmp_path / "old.tmp"
    for path in (gone, alive, elsewhere, old):
        path.write_text("")
    os.utime(old, (0, 0))
    remove_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([alive, elsewhere])


def test_a_lease_is_refused_while_its_owner_lives_and_taken_over_when_it_is_silent(place):
    path = place[0] / "lock"
    take = lambda: contextlib.closing(Lease(path, beat=0.05, expiry=1.0))
    with take(), pytest.raises(BlockingIOError, match=f"{os.getpid()} on "):
        Lease(path, beat=0.05, expiry=1.0)
    with take():  # it was given back
        pass
    path.write_text('{"pid": 1, "host": "elsewhere", "token": "abc", "beat": 7}')
    began = time.monotonic()
    with take():
        assert time.monotonic() - began >= 1.0
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    path.write_text(f'{{"pid": {child.pid}, "host": "{platform.node()}", "token": "a", "beat": 7}}')
    began = time.monotonic()
    with take():
        assert time.monotonic() - began < 1.0
