"""A data set is complete or absent, and what was written is read back."""

import dataclasses
import errno
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from ad_jax.errors import UserError
from data_pipelines import reader
from data_pipelines import writer as writer_module
from data_pipelines.files import read_json, write_json
from data_pipelines.reader import Histories, Selection
from data_pipelines.schema import STEP_FIELDS, Schema
from data_pipelines.writer import PROVENANCE, Writer, index_path

SMALL = Schema(
    observation_shape=(2,),
    observation_low=(0, 0),
    observation_sizes=(5, 5),
    num_actions=5,
    reward_levels=(0.0, 1.0),
    record_steps=20,
)
# The shards of the small data set, out of order: (tasks, blocks).
SHARDS = [([7, 2], 3), ([5], 2)]


@pytest.fixture(scope="module")
def steps(random_steps):
    """What the small data set holds: a dict of encoded steps [task, 2, steps] for each shard."""
    return [
        random_steps(SMALL, len(tasks), 2, 20 * blocks, episode=7, seed=seed)
        for seed, (tasks, blocks) in enumerate(SHARDS)
    ]


@pytest.fixture(scope="module")
def pristine(write_histories, steps, tmp_path_factory):
    shards = [(tasks, s) for (tasks, _), s in zip(SHARDS, steps, strict=True)]
    folder = tmp_path_factory.mktemp("small") / "histories"
    return write_histories(folder, SMALL, shards, {"seed": 3, "config": {"a": [1, 2]}})


@pytest.fixture
def folder(pristine, tmp_path):
    """The small data set, to be harmed."""
    return pathlib.Path(shutil.copytree(pristine, tmp_path / "histories"))


def shard_files(folder):
    """Files of the shards themselves, finished or not."""
    files = [p for p in folder.iterdir() if "array_record" in p.name]
    return sorted(p for p in files if p.suffix not in (".json", ".index"))


def leftovers(folder):
    return [p.name for p in folder.iterdir() if p.suffix == ".tmp"]


def test_tfds_opens_the_data_set(pristine, steps):
    """Without our reader: it is an ordinary TFDS data set, whose records say where they belong."""
    source = tfds.builder_from_directory(pristine).as_data_source("train")
    assert len(source) == 2 * 2 * 3 + 1 * 2 * 2
    found = {}
    for record in source:
        task, stream, start = (int(record[k][0]) for k in ("task", "stream", "start"))
        found[task, stream, start] = SMALL.from_record(record)
    assert len(found) == len(source)
    for (tasks, blocks), written in zip(SHARDS, steps, strict=True):
        for i, task in enumerate(tasks):
            for stream in range(2):
                for start in range(0, 20 * blocks, 20):
                    block = found[task, stream, start]
                    for k in STEP_FIELDS:
                        expected = written[k][i, stream, start : start + 20]
                        np.testing.assert_array_equal(block[k], expected, err_msg=k)


def test_rows_are_sorted_by_task_and_stream(pristine):
    histories = Histories(pristine)
    assert histories.task.tolist() == [2, 2, 5, 5, 7, 7]
    assert histories.stream.tolist() == [0, 1, 0, 1, 0, 1]
    assert histories.schema == SMALL
    assert histories.provenance["seed"] == 3
    assert histories.provenance["config"] == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 60), (0, 1), (19, 21), (20, 40), (5, 55), (39, 60), (59, 60), (30, 35)]
)
def test_read_spans_blocks(pristine, steps, start, stop):
    histories = Histories(pristine)
    for row, task, stream in [(1, 1, 1), (4, 0, 0)]:  # tasks 2 and 7 are second and first
        read = histories.read(row, np.arange(start, stop))
        assert set(read) == set(STEP_FIELDS)
        for k in STEP_FIELDS:
            np.testing.assert_array_equal(read[k], steps[0][k][task, stream, start:stop])
            assert read[k].dtype == steps[0][k].dtype


def test_many_records_are_read_together_and_few_one_by_one(pristine, monkeypatch):
    """Both ways read the same."""
    histories, rows, steps = Histories(pristine), np.arange(6), np.arange(40)
    together = histories.read(rows[:, None], steps)
    monkeypatch.setattr(type(histories._source), "__getitems__", None)  # reads many, in threads
    for row in rows:
        for k, v in histories.read(row, steps).items():
            np.testing.assert_array_equal(v, together[k][row])
    with pytest.raises(UserError):
        histories.read(rows[:, None], steps)


@pytest.mark.parametrize("row, step", [(0, 60), (2, 40), (0, -1)])
def test_steps_that_a_row_does_not_have(pristine, row, step):
    with pytest.raises(IndexError):
        Histories(pristine).read(row, np.array([0, step]))


def kept(histories, row, selection):
    """Begin and end of the kept episodes of a row, from the places of its kept steps."""
    rows, steps = (found := histories.kept_episodes(selection)).place(np.arange(found.before[-1]))
    assert np.bincount(rows, minlength=len(found.lengths)).tolist() == found.lengths.tolist()
    own = steps[rows == row]
    begins = np.flatnonzero(np.append(True, (np.diff(own) != 1) | (own[1:] % 7 == 0)))
    return [[int(p[0]), int(p[-1]) + 1] for p in np.split(own, begins[1:])]


def test_episodes_are_found(pristine):
    """Seven steps each; the last is cut off by the end of the row."""
    histories = Histories(pristine)
    assert histories.lengths.tolist() == [60, 60, 40, 40, 60, 60]
    ends = [[0, 7], [7, 14], [14, 21], [21, 28], [28, 35], [35, 42], [42, 49], [49, 56], [56, 60]]
    assert kept(histories, 0, Selection()) == ends
    assert kept(histories, 0, Selection(4)) == [[0, 7], [28, 35], [56, 60]]
    assert kept(histories, 2, Selection())[-1] == [35, 40]
    # Nine episodes: from the fourth to the seventh, and every other one of these.
    middle = Selection(2, None, 0.35, 0.8)
    assert kept(histories, 0, middle) == [[21, 28], [35, 42]]
    of_first = histories.kept_episodes(Selection(streams=1)).lengths
    assert of_first.tolist() == [60, 0, 40, 0, 60, 0]
    one = Selection(tasks=frozenset([int(histories.task[-1])]))
    assert histories.kept_episodes(one).lengths.tolist() == [0, 0, 0, 0, 60, 60]


def test_selections_that_keep_nothing():
    with pytest.raises(UserError, match=r"^begin=0\.5 and end=0\.5"):
        Selection(begin=0.5, end=0.5)
    with pytest.raises(UserError, match=r"^streams=0"):
        Selection(streams=0)
    with pytest.raises(UserError, match=r"^every=0"):
        Selection(every=0)


def test_a_file_takes_three_bytes_a_transition(
    write_histories, dark_room_schema, random_steps, tmp_path
):
    """On disk, with names, checksums and padding; steps are random, so nothing is compressed."""
    many = random_steps(dark_room_schema, tasks=12, streams=8, steps=4000)
    write_histories(tmp_path, dark_room_schema, [(range(12), many)])
    total = sum(p.stat().st_size for p in tmp_path.iterdir())
    assert total / many["action"].size <= 3
    row = Histories(tmp_path).read(8 * 11 + 5, np.arange(4000))
    np.testing.assert_array_equal(row["observation"], many["observation"][11, 5])


# Interrupted writing.


def test_an_unfinished_shard_leaves_nothing(steps, tmp_path):
    writer = Writer(tmp_path, SMALL, 2)
    assert writer.missing() == [0, 1]
    with writer.shard(0, np.array([7, 2])) as shard:
        shard.write({k: v[:, :, :20] for k, v in steps[0].items()})
    assert writer.missing() == [1]

    class Cut(Exception):
        pass

    with pytest.raises(Cut), writer.shard(1, np.array([5])) as shard:
        shard.write({k: v[:, :, :20] for k, v in steps[1].items()})
        raise Cut
    assert writer.missing() == Writer(tmp_path, SMALL, 2).missing() == [1]
    assert shard_files(tmp_path) == [writer.path(0)]
    assert leftovers(tmp_path) == []


def test_leftovers_of_a_killed_writer_are_removed(steps, tmp_path):
    writer = Writer(tmp_path, SMALL, 1)
    half = writer.path(0).with_name(writer.path(0).name + ".tmp")
    half.write_bytes(b"half a shard")
    os.utime(half, (0, 0))  # long ago
    again = Writer(tmp_path, SMALL, 1)
    assert leftovers(tmp_path) == []
    assert again.missing() == [0]


def test_a_shard_can_be_written_again_after_a_cut(steps, tmp_path, write_histories):
    """Oracle: a data set whose writing was not interrupted."""
    writer = Writer(tmp_path / "cut", SMALL, 1)
    chunk = {k: v[:, :, :20] for k, v in steps[0].items()}
    with pytest.raises(KeyboardInterrupt), writer.shard(0, np.array([7, 2])) as shard:
        shard.write(chunk)
        raise KeyboardInterrupt
    for folder in ("cut", "whole"):
        write_histories(tmp_path / folder, SMALL, [([7, 2], chunk)])
    cut, whole = (json.loads((tmp_path / f / PROVENANCE).read_text()) for f in ("cut", "whole"))
    assert cut == whole
    assert Histories(tmp_path / "cut").task.tolist() == [2, 2, 7, 7]


def test_stored_numbers_that_are_not_finite_are_refused(
    random_steps, write_histories, tmp_path, monkeypatch
):
    """An older version could write them."""
    steps = random_steps(SMALL, 2, 1, 40)
    reward = steps["reward"].astype(np.float32)
    reward[1, 0, 25] = np.nan
    schema = dataclasses.replace(SMALL, reward_levels=None)
    with monkeypatch.context() as older:
        older.setattr(Schema, "fault", lambda self, fields: None)
        write_histories(tmp_path, schema, [([0, 1], {**steps, "reward": reward})])
    histories = Histories(tmp_path)
    assert histories.read(np.array([0]), np.array([25]))["reward"] == reward[0, 0, 25]
    with pytest.raises(UserError, match=r"a NaN or infinite reward: fix .* collect again"):
        histories.read(np.array([1]), np.array([25]))


def test_shards_alone_are_no_data_set(steps, tmp_path):
    writer = Writer(tmp_path, SMALL, 1)
    with writer.shard(0, np.array([7, 2])) as shard:
        shard.write({k: v[:, :, :20] for k, v in steps[0].items()})
    with pytest.raises(UserError, match="no finished data set"):
        Histories(tmp_path)
    writer.commit({})
    assert len(Histories(tmp_path).task) == 4


def test_summaries_are_kept_with_their_shards(steps, tmp_path):
    writer = Writer(tmp_path, SMALL, 1)
    with writer.shard(0, np.array([7, 2])) as shard:
        shard.write({k: v[:, :, :20] for k, v in steps[0].items()})
        shard.describe(mean_return=[0.5, 1.0])
    [summary] = Writer(tmp_path, SMALL, 1).summaries()
    assert summary["mean_return"] == [0.5, 1.0]
    assert summary["tasks"] == [7, 2]
    assert summary["records"] == 4
    assert summary["bytes"] == writer.path(0).stat().st_size


# Damage.


@pytest.mark.parametrize("shard", [0, 1])
def test_a_missing_shard_is_named(folder, shard):
    path = shard_files(folder)[shard]
    path.unlink()
    with pytest.raises(UserError, match=f"{path.name} is missing"):
        Histories(folder)


@pytest.mark.parametrize("shard", [0, 1])
def test_a_shard_cut_short_is_named(folder, shard):
    path = shard_files(folder)[shard]
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match=f"{path.name} is cut short"):
        Histories(folder)


@pytest.mark.parametrize("shard", [0, 1])
def test_a_flipped_byte_is_noticed(folder, shard):
    path = shard_files(folder)[shard]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path.name} is damaged"):
        Histories(folder)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", PROVENANCE])
def test_damaged_metadata_is_a_user_error(folder, name):
    """As after a copy that was interrupted."""
    path = folder / name
    path.write_text(path.read_text()[:-20])
    with pytest.raises(UserError, match=name):
        Histories(folder)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_missing_metadata_is_a_user_error(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=name):
        Histories(folder)


def flips(content, number):
    """Copies of some bytes, each with one random bit flipped."""
    rng = np.random.default_rng(0)
    for bit in rng.choice(8 * len(content), number, replace=False):
        copy = bytearray(content)
        copy[bit // 8] ^= 1 << bit % 8
        yield bytes(copy)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", PROVENANCE])
def test_a_flipped_bit_in_the_metadata_is_noticed_or_harmless(folder, name, steps):
    path = folder / name
    noticed = 0
    for content in flips(path.read_bytes(), 150):
        path.write_bytes(content)
        try:
            histories = Histories(folder)
        except UserError as error:
            assert "\n" not in str(error)
            assert f"remove {folder} and collect again" in str(error)
            noticed += 1
            continue
        assert histories.schema == SMALL and histories.provenance["seed"] == 3
        for field, values in histories.read(1, np.arange(60)).items():
            np.testing.assert_array_equal(values, steps[0][field][1, 1])
    assert noticed > 100


def test_a_flipped_bit_in_a_summary_is_noticed_or_harmless(folder):
    writer = Writer(folder, SMALL, len(SHARDS))
    want = writer.summaries()
    path = writer.path(0).with_name(writer.path(0).name + ".json")
    noticed = 0
    for content in flips(path.read_bytes(), 150):
        path.write_bytes(content)
        try:
            got = writer.summaries()
        except UserError as error:
            assert str(path) in str(error) and "remove it" in str(error)
            noticed += 1
            continue
        assert got[0].items() >= want[0].items() and got[1] == want[1]
    assert noticed > 100


def test_errors_of_the_system_pass_through(folder, monkeypatch):
    """They are not reported as damage of the data set."""
    monkeypatch.setattr(tfds, "builder_from_directory", disk_full)
    with pytest.raises(OSError, match="No space left"):
        Histories(folder)


@pytest.mark.parametrize(
    ("version", "readable"), [("2.0.0", False), ("0.9.0", False), ("1.7.3", True)]
)
def test_another_major_version_is_refused(folder, version, readable):
    path = folder / PROVENANCE
    write_json(path, {**read_json(path, ""), "version": version})
    if readable:
        assert len(Histories(folder).task) == 6
    else:
        with pytest.raises(UserError, match=version):
            Histories(folder)


# The index.


def as_of_an_older_version(folder, shards):
    """Removes the index of some shards."""
    path = folder / PROVENANCE
    provenance = read_json(path, "")
    for shard in shards:
        index = index_path(shard_files(folder)[shard])
        index.unlink()
        del provenance["metadata"][index.name]
    write_json(path, provenance)


@pytest.mark.parametrize("shards", [[0], [0, 1]])
def test_shards_without_an_index_are_read_to_find_out(folder, pristine, shards):
    as_of_an_older_version(folder, shards)
    old, new = Histories(folder), Histories(pristine)
    for name in ("task", "stream", "lengths"):
        np.testing.assert_array_equal(getattr(old, name), getattr(new, name))
    for found, want in zip(old.kept_episodes(Selection()), new.kept_episodes(Selection()),
                           strict=True):  # fmt: skip
        np.testing.assert_array_equal(found, want)
    rows, steps = np.arange(6)[:, None], np.arange(40)
    np.testing.assert_array_equal(old.read(rows, steps)["action"], new.read(rows, steps)["action"])


def test_with_an_index_opening_reads_no_record(pristine, monkeypatch):
    monkeypatch.setattr(Schema, "parse", lambda *_: pytest.fail("a record is read"))
    found = Histories(pristine).kept_episodes(Selection())
    assert found.before[-1] == 4 * 60 + 2 * 40


@pytest.mark.parametrize("shard", [0, 1])
def test_a_damaged_index_is_named(folder, shard):
    path = index_path(shard_files(folder)[shard])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path.name} is damaged"):
        Histories(folder)


def test_a_missing_index_is_named(folder):
    path = index_path(shard_files(folder)[1])
    path.unlink()
    with pytest.raises(UserError, match=f"{path.name} is missing"):
        Histories(folder)


def test_behind_what_is_checked_at_opening_damage_is_found_by_reading_or_harmless(
    folder, steps, monkeypatch
):
    """Every record has a checksum; the bytes between records do not matter."""
    monkeypatch.setattr(reader, "_CHECKED_BYTES", 0)
    path = shard_files(folder)[0]
    whole = path.read_bytes()
    of_records = 4000  # after them, the file is padded with zeros
    noticed = 0
    for content in flips(whole[:of_records], 60):
        path.write_bytes(content + whole[of_records:])
        try:
            histories = Histories(folder)
            found = histories.read(np.array([[0], [1], [4], [5]]), np.arange(60))
        except UserError as error:
            assert "\n" not in str(error)
            assert "damaged record" in str(error)
            assert f"remove {folder} and collect again" in str(error)
            noticed += 1
            continue
        want = steps[0]["action"][[1, 0]].reshape(4, 60)  # task 2, then 7
        np.testing.assert_array_equal(found["action"], want)
    assert noticed > 30


def test_a_name_that_no_field_has_is_not_called_damage(folder):
    with pytest.raises(KeyError, match="actions"):
        Histories(folder).read(0, np.arange(2), ("actions",))


def test_a_large_data_set_is_checked_as_far_as_the_limit(folder, monkeypatch):
    first, second = shard_files(folder)
    monkeypatch.setattr(reader, "_CHECKED_BYTES", first.stat().st_size)
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 1
    second.write_bytes(content)
    assert len(Histories(folder).task) == 6
    first.write_bytes(bytes(first.stat().st_size))
    with pytest.raises(UserError, match=f"{first.name} is damaged"):
        Histories(folder)


# Errors in the writer's thread.


def within(seconds, function):
    """Calls a function that must not hang; returns what it raised."""
    raised = []

    def call():
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "the writer hangs"
    return raised


def disk_full(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def break_records(monkeypatch):
    monkeypatch.setattr(Schema, "to_record", disk_full)


def break_opening(monkeypatch):
    monkeypatch.setattr(writer_module, "ArrayRecordWriter", disk_full)


def break_closing(monkeypatch):
    """The last bytes are written when the file is closed."""
    original = writer_module.ArrayRecordWriter

    class FullAtTheEnd:
        def __init__(self, *args):
            self._writer = original(*args)

        def write(self, record):
            self._writer.write(record)

        def close(self):
            self._writer.close()
            disk_full()

    monkeypatch.setattr(writer_module, "ArrayRecordWriter", FullAtTheEnd)


def break_writing(monkeypatch):
    """ArrayRecord wraps the system's error in one of its own."""
    original = writer_module.ArrayRecordWriter

    class Full:
        def __init__(self, *args):
            self._writer = original(*args)
            self.close = self._writer.close

        def write(self, record):
            raise RuntimeError(f"write() failed: {os.strerror(errno.ENOSPC)}; writing a file")

    monkeypatch.setattr(writer_module, "ArrayRecordWriter", Full)


@pytest.mark.parametrize("breaks", [break_records, break_opening, break_writing, break_closing])
@pytest.mark.parametrize("num_chunks", [1, 3, 12])  # fewer and more than the queue holds
def test_an_error_in_the_thread_reaches_the_caller(
    breaks, num_chunks, steps, tmp_path, monkeypatch
):
    chunk = {k: v[:, :, :20] for k, v in steps[0].items()}
    writer = Writer(tmp_path, SMALL, 2)
    with writer.shard(0, np.array([7, 2])) as shard:
        shard.write(chunk)
    finished = writer.path(0).read_bytes()
    breaks(monkeypatch)

    def write():
        with writer.shard(1, np.array([7, 2])) as shard:
            for _ in range(num_chunks):
                shard.write(chunk)

    [error] = within(5, write)
    assert os.strerror(errno.ENOSPC) in str(error)  # so the caller can recognise a full disk
    assert shard_files(tmp_path) == [writer.path(0)]  # and no temporary file
    assert writer.path(0).read_bytes() == finished
    assert writer.missing() == [1]


def test_the_queue_is_bounded(steps, tmp_path, monkeypatch):
    """A slow disk slows the caller down instead of filling the memory."""
    chunk = {k: v[:, :, :20] for k, v in steps[0].items()}
    gate = threading.Event()
    original = Schema.to_record

    def slow(self, *args):
        gate.wait(20)
        return original(self, *args)

    monkeypatch.setattr(Schema, "to_record", slow)
    written = []

    def write():
        with Writer(tmp_path, SMALL, 1).shard(0, np.array([7, 2])) as shard:
            for i in range(10):
                shard.write(chunk)
                written.append(i)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    time.sleep(0.5)
    waiting = len(written)
    gate.set()
    thread.join(20)
    assert 1 <= waiting <= 4
    assert len(written) == 10


def test_tensorflow_is_not_imported(pristine, tmp_path):
    """It takes seconds and a gigabyte. If it is not installed, the stand-in records attempts."""
    mark = tmp_path / "imported"
    stand_in = tmp_path / "path" / "tensorflow"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").write_text(f"open({str(mark)!r}, 'w'); raise ImportError")
    program = (
        "import sys, data_pipelines.reader, data_pipelines.writer\n"
        f"histories = data_pipelines.reader.Histories({str(pristine)!r})\n"
        "assert len(histories.read(0, range(60))['action']) == 60\n"
        "print('tensorflow' in sys.modules)"
    )
    path = os.pathsep.join([str(stand_in.parent), *filter(None, sys.path)])
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "False"
    assert not mark.exists()
