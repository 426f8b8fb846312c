"""The command that reproduces figures: what it plans, draws and refuses."""

import sys
import types

import pytest
from matplotlib.figure import Figure

from ad_jax.errors import UserError
from experiments import reproduce
from experiments.figures import FIGURES, work
from experiments.figures.runs import jobs
from experiments.runtime.interruption import Interrupted, Interruption


def plan(number, seeds=1):
    return list(
        {j.folder: j for r in FIGURES[number].runs("cpu").values() for j in jobs(r, seeds)}.values()
    )


def test_before_the_first_job_the_plan_is_told(tmp_path, capsys):
    """The number of jobs of each stage, how long they took where the figures in the docs were made,
    and how many have no estimate."""

    class Stop:
        """Stops before the first job."""

        def check(self):
            raise Interrupted

    whole = plan(10, 2)
    published = reproduce.published_seconds(10, "cpu", FIGURES[10].runs("cpu"), 2)
    assert {job.folder for job in whole} == published.keys()
    known = {job.folder: 900.0 for job in whole if job.stage == "train"}
    with pytest.raises(Interrupted):
        work.do(tmp_path, whole, Stop(), known)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "0 of 17 jobs are done already"
    counts = [line.split() for line in lines[2:6]]
    assert [(words[0], words[1]) for words in counts] == [
        ("collect", "1"), ("train", "8"), ("evaluate", "8"), ("all", "17"),
    ]  # fmt: skip
    assert "no estimate for 1 job" in lines[2] and "about 2.0 h" in lines[3]
    assert "about 2.0 h, no estimate for 9 more jobs" in lines[5] and "docs/figures" in lines[1]
    assert lines[6].startswith("[1/17]") and "no estimate for 9 more jobs" in lines[6]


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
    assert jobs == "22 jobs" and "no estimate for 22 jobs" in rest
    assert collected.endswith("steps to collect") and evaluated.endswith("steps to evaluate")
    assert trained.endswith("transitions to train on") and "collect" not in lines[5]


def test_a_folder_keeps_its_preset(tmp_path, never):
    reproduce.reproduce([1], "smoke", tmp_path, never)
    with pytest.raises(UserError, match="holds results of the preset smoke, not of cpu"):
        reproduce.reproduce([1], "cpu", tmp_path, never)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--figure=99"], rf"no such figure \(99\): give numbers from 1 to {max(FIGURES)}, or all"),
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
    monkeypatch.setattr(work, "do", lambda *_: None)
    reproduce.reproduce([9], "smoke", tmp_path, never, shard=(0, 2))
    assert "figure 9 waits for 2 jobs of other shards" in capsys.readouterr().out


def test_an_empty_workdir_is_refused(never):
    """It would mean the current folder."""
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
