"""The command that reproduces figures: plans, shards, interruption, bad input."""

import contextlib
import sys
import threading
import time
import types

import pytest
from matplotlib.figure import Figure

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
    printed = capsys.readouterr().out
    assert "1 of 2 jobs are done already" in printed
    assert f"[1/1] {todo[1].folder}   no estimate for 1 job" in printed  # another environment's


def test_before_the_first_job_the_plan_is_told(tmp_path, capsys):
    """The jobs of each stage, how long they took where the docs' figures were made, and what is
    not known."""

    class Stop:
        """Nothing is begun."""

        def check(self):
            raise Interrupted

    whole = plan(10, 2)
    published = reproduce.published_seconds(10, "cpu", FIGURES[10].runs("cpu"), 2)
    assert {job.folder for job in whole} == published.keys()
    known = {job.folder: 900.0 for job in whole if job.stage == "train"}
    with pytest.raises(Interrupted):
        reproduce.do(tmp_path, whole, Stop(), known)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "0 of 17 jobs are done already"
    counts = [line.split() for line in lines[2:6]]
    assert [(words[0], words[1]) for words in counts] == [
        ("collect", "1"), ("train", "8"), ("evaluate", "8"), ("all", "17"),
    ]  # fmt: skip
    assert "no estimate for 1 job" in lines[2] and "about 2.0 h" in lines[3]
    assert "about 2.0 h, no estimate for 9 more jobs" in lines[5] and "docs/figures" in lines[1]
    assert lines[6].startswith("[1/17]") and "no estimate for 9 more jobs" in lines[6]


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
    """Never 0 minutes, as long as there is something to do."""
    assert reproduce.remaining(range(len(seconds)), lambda i: seconds[i]) == said


def test_times_of_another_preset_or_device_are_no_estimate(monkeypatch):
    runs = FIGURES[9].runs("paper")
    assert reproduce.published_seconds(9, "paper", runs, 1) == {}
    device = types.SimpleNamespace(device_kind="a GPU")
    monkeypatch.setattr(reproduce.jax, "devices", lambda: [device])
    assert reproduce.published_seconds(9, "cpu", FIGURES[9].runs("cpu"), 1) == {}


def test_the_list_says_what_figures_take(capsys, tmp_path):
    """Without a workdir, and without running anything."""
    reproduce.main(["--list", "--figure=1,4,11", "--preset=smoke"], None)
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "preset smoke, 1 training seed" and len(lines) == 6
    assert lines[1].strip() == "drawn" and lines[2].strip().startswith("4  Learning in context")
    jobs, rest = lines[3].strip().split(" (")
    collected, trained, evaluated = rest.split("): ")[0].split(", ")
    assert jobs == "16 jobs" and "no estimate for 16 jobs" in rest
    assert collected.endswith("steps to collect") and evaluated.endswith("steps to evaluate")
    assert trained.endswith("transitions to train on") and "collect" not in lines[5]


def test_a_job_takes_as_long_as_those_like_it_did_here(tmp_path):
    """For each unit of work; only then as long as it took elsewhere."""
    first, second = (job for job in plan(7, 2) if job.stage == "train" and "-1-" in job.folder
                     and job.config.model.context in (20, 200))  # fmt: skip
    (tmp_path / first.folder).mkdir(parents=True)
    with reproduce._timed(tmp_path, first):
        time.sleep(0.05)
    rates = {}
    assert reproduce._estimate(second, rates, {second.folder: 7.0}) == 7.0
    assert reproduce._estimate(second, rates, {}) is None
    reproduce._learn(rates, tmp_path, first)
    took = reproduce._seconds(tmp_path, first)
    found = reproduce._estimate(second, rates, {second.folder: 7.0})
    assert found == pytest.approx(took * second.work / first.work) and found < 5


def test_a_job_that_was_stopped_counts_all_of_its_time(tmp_path):
    job = plan(9)[0]
    (tmp_path / job.folder).mkdir(parents=True)
    for _ in range(2):
        with contextlib.suppress(Interrupted), reproduce._timed(tmp_path, job):
            time.sleep(0.05)
            raise Interrupted
    assert 0.1 <= reproduce._seconds(tmp_path, job) < 5


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
        (["--figure=17"], r"there is no such figure \(17\): give numbers from 1 to 16, or all"),
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
        panels=lambda results: made.append(results) or [],
        draw=lambda _: drawn.append(True) or Figure(),
    )
    monkeypatch.setitem(reproduce.FIGURES, 1, figure)
    for is_first in (False, True):
        monkeypatch.setattr(reproduce.processes, "is_first", lambda first=is_first: first)
        reproduce.draw(tmp_path, 1, "smoke", {}, 1)
        assert bool(drawn) == is_first
    assert len(made) == 2
