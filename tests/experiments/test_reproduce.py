"""The command that reproduces figures: plans, shards, interruption, bad input."""

import sys
import threading
import time

import pytest

from ad_jax.errors import UserError
from experiments import reproduce
from experiments.figures import FIGURES
from experiments.figures.runs import jobs
from experiments.runtime.interruption import Interrupted, Interruption


def plan(number, seeds=1):
    return list(
        {j.folder: j for r in FIGURES[number].runs("cpu").values() for j in jobs(r, seeds)}.values()
    )


@pytest.mark.parametrize("number", [4, 7, 9])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_shards_are_all_of_the_work(number, count):
    whole = plan(number, 2)
    parts = [reproduce.part(whole, i, count) for i in range(count)]
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
        reproduce.do(tmp_path, todo, AfterTheFirst())
    assert [job.done(tmp_path) for job in todo] == [True, False]
    reproduce.do(tmp_path, todo, never)
    assert all(job.done(tmp_path) for job in todo)
    assert "1 of 2 jobs are done already" in capsys.readouterr().out


def test_a_job_waits_for_whoever_is_at_it(tmp_path, never, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "_PATIENCE", 0.05)
    job = plan(9)[0]
    held = job.workdir(tmp_path)
    threading.Timer(0.5, held.close).start()
    began = time.monotonic()
    reproduce._wait(tmp_path, job, never).close()
    assert time.monotonic() - began > 0.4
    assert capsys.readouterr().out.count("is in use by process") == 1


def test_a_folder_keeps_its_preset(tmp_path, never):
    reproduce.reproduce([1], "smoke", tmp_path, never)
    with pytest.raises(UserError, match="holds results of the preset smoke, not of cpu"):
        reproduce.reproduce([1], "cpu", tmp_path, never)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--figure=16"], r"there is no such figure \(16\): give numbers from 1 to 15, or all"),
        (["--figure=main"], "there is no such figure: give numbers"),
        (["--figure=1", "--preset=fast"], "--preset=fast: choose one of smoke, cpu, paper"),
        (["--figure=1", "--shard=3/2"], "--shard=3/2: give i/n with i from 1 to n"),
        (["--figure=1", "--seeds=0"], "--seeds=0: give one or more"),
    ],
)
def test_bad_input(options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        reproduce.main([*options, f"--workdir={tmp_path / 'run'}"], Interruption())
    assert not (tmp_path / "run").exists()


def test_the_command_ends_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["reproduce", "--figure=99", f"--workdir={tmp_path}"])
    with pytest.raises(SystemExit, match=r"^error: --figure=99: there is no such figure") as ended:
        reproduce.entry_point()
    assert "\n" not in str(ended.value)


def test_a_shard_says_what_a_figure_waits_for(tmp_path, never, capsys, monkeypatch):
    monkeypatch.setattr(reproduce, "do", lambda *_: None)
    reproduce.reproduce([9], "smoke", tmp_path, never, shard=(0, 2))
    assert "figure 9 waits for 2 jobs of other shards" in capsys.readouterr().out


def test_an_empty_workdir_is_refused(never):
    """It would be the current folder."""
    with pytest.raises(UserError, match="--workdir= is empty"):
        reproduce.reproduce([1], "smoke", "", never)


def test_every_process_makes_the_panels_and_the_first_one_draws(tmp_path, monkeypatch):
    """Panels of a trained model need all devices: one process alone would wait for ever."""
    made, drawn = [], []
    figure = FIGURES[1]._replace(
        panels=lambda results: made.append(results) or [], draw=lambda *_: drawn.append(True)
    )
    monkeypatch.setitem(reproduce.FIGURES, 1, figure)
    for is_first in (False, True):
        monkeypatch.setattr(reproduce.processes, "is_first", lambda first=is_first: first)
        reproduce.draw(tmp_path, 1, "smoke", {}, 1)
        assert bool(drawn) == is_first
    assert len(made) == 2
