"""Jobs: their order, shares of them, interruption, and how long they take."""

import contextlib
import threading
import time

import pytest

from experiments.figures import FIGURES, work
from experiments.figures.runs import jobs
from experiments.runtime.interruption import Interrupted


def plan(number, seeds=1):
    return list(
        {j.folder: j for r in FIGURES[number].runs("cpu").values() for j in jobs(r, seeds)}.values()
    )


@pytest.mark.parametrize("number", [4, 7, 9])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_shards_are_all_of_the_work(number, count):
    whole = plan(number, 2)
    parts = [work.part(whole, i, count) for i in range(count)]
    assert {job.folder for part in parts for job in part} == {job.folder for job in whole}
    models = [job.folder for part in parts for job in part if job.stage != "collect"]
    assert len(models) == len(set(models))  # nothing is trained twice
    for part in parts:
        folders = [job.folder for job in part]
        for job in part:  # what a job reads comes before it, in its own shard
            for needed in {job.histories, job.model} - {None}:
                assert folders.index(needed) < folders.index(job.folder)


def test_what_is_done_is_skipped_and_what_was_stopped_goes_on(tmp_path, never, capsys):
    runs = FIGURES[9].runs("smoke")
    todo = [job for run in runs.values() for job in jobs(run, 1)]

    class AfterTheFirst:
        """Stops the work once a job is done."""

        def check(self):
            if todo[0].done(tmp_path):
                raise Interrupted

    with pytest.raises(Interrupted):
        work.do(tmp_path, todo, AfterTheFirst())
    assert [job.done(tmp_path) for job in todo] == [True, False]
    work.do(tmp_path, todo, never)
    assert all(job.done(tmp_path) for job in todo)
    printed = capsys.readouterr().out
    assert "1 of 2 jobs are done already" in printed
    assert f"[1/1] {todo[1].folder}   no estimate for 1 job" in printed  # another environment


@pytest.mark.parametrize(
    "seconds, said",
    [
        ([0.4, 0.1, 3.0], "less than a minute"),
        ([70.0, 60.0], "about 3 min"),
        ([7200.0, None], "about 2.0 h, no estimate for 1 more job"),
        ([None, None], "no estimate for 2 jobs"),
    ],
)
def test_what_remains_covers_all_jobs(seconds, said):
    """Never 0 minutes as long as there is something to do."""
    assert work.remaining(range(len(seconds)), lambda i: seconds[i]) == said


def test_a_job_takes_as_long_as_those_like_it_did_here(tmp_path):
    """In proportion to its work. Until such a job is done here, times from elsewhere are used."""
    first, second = (job for job in plan(7, 2) if job.stage == "train" and "-1-" in job.folder
                     and job.config.model.context in (20, 200))  # fmt: skip
    (tmp_path / first.folder).mkdir(parents=True)
    with work._timed(tmp_path, first):
        time.sleep(0.05)
    rates = {}
    assert work.estimated(second, rates, {second.folder: 7.0}) == 7.0
    assert work.estimated(second, rates, {}) is None
    work._learn(rates, tmp_path, first)
    took = work._seconds(tmp_path, first)
    found = work.estimated(second, rates, {second.folder: 7.0})
    assert found == pytest.approx(took * second.work / first.work) and found < 5


def test_a_job_that_was_stopped_counts_all_of_its_time(tmp_path):
    job = plan(9)[0]
    (tmp_path / job.folder).mkdir(parents=True)
    for _ in range(2):
        with contextlib.suppress(Interrupted), work._timed(tmp_path, job):
            time.sleep(0.05)
            raise Interrupted
    assert 0.1 <= work._seconds(tmp_path, job) < 5


def test_a_job_waits_for_whoever_is_at_it(tmp_path, never, monkeypatch, capsys):
    monkeypatch.setattr(work, "_PATIENCE", 0.05)
    job = plan(9)[0]
    held = job.workdir(tmp_path)
    threading.Timer(0.5, held.close).start()
    began = time.monotonic()
    work._wait(tmp_path, job, never).close()
    assert time.monotonic() - began > 0.4
    assert capsys.readouterr().out.count("is in use by process") == 1
