"""The program from outside: what a run produces, resuming, stopping, and bad input."""

import errno
import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
from absl import app, logging
from absl.testing import flagsaver
from PIL import Image

import ad_jax
from ad_jax.checkpoint import Checkpoints
from experiments import pipeline, run
from experiments.runtime.interruption import Interruption
from experiments.stages import report
from tests.experiments.conftest import ROOT, command, finish, start


def test_a_run_leaves_everything_it_promises(smoke_run):
    workdir, output = smoke_run
    assert "held-out" in output and "learning_curve.png" in output
    for name in ("learning_curve.png", "source.png", "goals.png"):
        image = np.asarray(Image.open(workdir / "report" / name).convert("L"))
        assert min(image.shape) > 200 and image.std() > 10
    with Image.open(workdir / "report" / "rollout.gif") as gif:
        assert 4 * 3 < gif.n_frames <= 4 * 8  # steps that look alike are one longer frame
    metrics = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in metrics] == [10, 20, 30, 40]
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    assert list((workdir / "tensorboard").iterdir())


def test_the_summary_says_what_was_measured(smoke_run):
    workdir, _ = smoke_run
    summary = json.loads((workdir / "report" / "summary.json").read_text())
    results = np.load(workdir / "evaluation" / "rollouts.npz")
    assert summary["environment"] == "DarkRoom" and summary["method"] == "AD"
    assert summary["heldout"]["tasks"] == 2 and summary["train"]["tasks"] == 6
    for name in ("heldout", "train"):
        chosen = results["group"] == name
        split = summary[name]
        np.testing.assert_allclose(split["return"], results["returns"][0, chosen].mean((0, 1)))
        assert len(split["return"]) == len(split["normalized"]) == len(split["ci95"]) == 4
        assert len(split["per_task_final"]) == split["tasks"]
        assert all(low <= mean <= high for mean, (low, high) in
                   zip(split["normalized"], split["ci95"], strict=True))  # fmt: skip
    # A 3×3 room, 8 steps: a goal at distance d pays from step max(d, 1) on.
    distance = [abs(task % 3 - 1) + abs(task // 3 - 1) for task in results["task"][:2]]
    optimum = np.mean([8 - max(d, 1) + 1 for d in distance])
    assert summary["seeds"] == [0]
    assert summary["version"] == ad_jax.__version__ and summary["commit"]
    last = results["returns"][0, results["group"] == "heldout", :, -1]
    scores = last.mean(1) / [8 - max(d, 1) + 1 for d in distance]
    assert summary["heldout"]["final_by_seed"] == pytest.approx([scores.mean()])
    assert summary["optimal_return"] == pytest.approx(optimum)
    assert len(summary["source"]["return"]) == 40
    assert summary["source"]["env_steps_total"] == 6 * 8 * 40 * 8
    for group in ("seconds", "throughput"):
        assert all(value > 0 for value in summary[group].values())


def test_a_second_run_skips_what_is_done(smoke_run):
    workdir, _ = smoke_run
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*.*") if p.is_file()}
    (workdir / "report" / "summary.json").unlink()
    status, output = finish(start(workdir))
    assert status == 0
    for stage in ("collect", "train", "evaluate"):
        assert f"{stage}: already done, skipped" in output
    assert "report: already" not in output
    kept = [p for p in before if p.parent.name in ("histories", "evaluation", "checkpoints")]
    assert kept and all(before[p] == p.stat().st_mtime_ns for p in kept)
    assert (workdir / "report" / "summary.json").exists()


LONG = ("--stages=train", "--config.train.steps=400", "--config.train.checkpoint_every=50")


def params_of(workdir):
    checkpoints = Checkpoints(workdir / "checkpoints")
    step = checkpoints.latest_step()
    import jax

    from ad_jax import build
    from ad_jax.methods.optimizer import make_optimizer
    from ad_jax.methods.train_state import init_state
    from experiments.configs import dark_room

    config = dark_room.get_config("smoke")
    config.train.steps = 400
    model = build.model(config, build.world(config).env)
    optimizer = make_optimizer(build.optimizer(config), 400)
    state, _ = checkpoints.restore(step, init_state(jax.random.key(0), model, optimizer))
    return step, jax.device_get(state)


def wait_until(condition, process):
    deadline = time.time() + 120
    while not condition():
        assert process.poll() is None and time.time() < deadline, finish(process)[1]
        time.sleep(0.01)


def logged(workdir):
    """The rows of metrics.jsonl, without the speed."""
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in row.items() if k != "transitions_per_s"} for row in rows]


def test_training_that_was_stopped_and_killed_ends_bit_equal(smoke_run, tmp_path):
    """Oracle: an uninterrupted run. SIGTERM saves; SIGKILL loses what no checkpoint has."""
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    for workdir in (straight, broken):
        workdir.mkdir()
        shutil.copytree(smoke_run[0] / "histories", workdir / "histories")
    uninterrupted = start(straight, *LONG)

    process = start(broken, *LONG, "--stopped_status=3")
    wait_until(lambda: (broken / "metrics.jsonl").exists()
               and (broken / "metrics.jsonl").read_text().count("\n") >= 3, process)  # fmt: skip
    process.send_signal(signal.SIGTERM)
    status, output = finish(process)
    assert status == 3 and "run the same command to resume" in output
    stopped_at = Checkpoints(broken / "checkpoints").latest_step()
    assert 30 <= stopped_at < 400

    process = start(broken, *LONG)
    later = lambda: any(
        p.name.isdigit() and int(p.name) > stopped_at for p in (broken / "checkpoints").iterdir()
    )
    wait_until(later, process)
    process.send_signal(signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL
    assert Checkpoints(broken / "checkpoints").latest_step() < 400

    status, output = finish(start(broken, *LONG))
    assert status == 0 and "resuming from step" in output
    assert finish(uninterrupted)[0] == 0
    (step, got), (_, want) = params_of(broken), params_of(straight)
    assert step == 400
    import jax

    jax.tree.map(np.testing.assert_array_equal, got, want)
    assert [row["step"] for row in logged(straight)] == list(range(10, 401, 10))
    assert logged(broken) == logged(straight)  # also the rows during which signals came


@pytest.fixture
def enter(monkeypatch, capsys):
    """``enter(*options) -> (what it exits with, what it printed)``: the program in this process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    verbosity = logging.get_verbosity()

    def call(*options):
        monkeypatch.setattr("sys.argv", command("unused", *options)[2:])
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
            run.entry_point()
        return ended.value.code, capsys.readouterr()

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)
    logging.set_verbosity(verbosity)


BAD_INPUT = {
    "unknown preset": (["--config=experiments/configs/dark_room.py:huge"], "no preset huge"),
    "no such config": (["--config=experiments/configs/no.py:smoke"], "No such file"),
    "mistyped config": (
        ["--config=dark_rom:smoke"],
        "--config=dark_rom:smoke: no such config: give a file, or one of adversarial_bandit,",
    ),
    "mistyped key": (
        ["--config.train.stepz=3"],
        '--config.train.stepz: the config has no stepz there: did you mean "steps"',
    ),
    "setting of another environment": (
        ["--config.model.width=8", "--config.env.kwargs.width=3"],
        "--config.env.kwargs.width: the config has no width there: settings of your own components",
    ),
    "wrong type": (["--config.train.steps=many"], "train.steps=many"),
    "unknown flag": (["--wrkdir=x"], "wrkdir"),
    "unknown stage": (["--stages=collect,trian"], "trian"),
    "no stage": (["--stages="], "--stages=: choose from collect"),
    "config that is no Python": (["--config=README.md"], "README.md"),
    "unknown environment": (["--config.env.name=BrightRoom"], "BrightRoom"),
    "unknown source": (["--config.source.name=sarsa"], "sarsa"),
    "stage before its input": (["--stages=train"], "run the stage 'collect' first"),
    "chunks do not fit": (["--config.collect.updates_per_chunk=7"], "not a multiple"),
    "no value": (["--config.train.steps=None"], "train.steps=None: give a value"),
    "tuple of another type": (["--config.source.ppo.hidden=('a',)"], "source.ppo.hidden=('a',)"),
    "may be left open": (
        ["--config.tasks.num_train=None", "--stages=train"],
        "stage 'collect' first",
    ),
    "number too small": (["--config.train.log_every=0"], "train.log_every=0: give a number from 1"),
    "workdir below nothing": (["--workdir=/proc/x/run"], "give another folder"),
}
IN_A_PROCESS = ("unknown preset", "stage before its input")


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_ends_in_one_clear_line(tmp_path, enter, monkeypatch, name):
    options, part = BAD_INPUT[name]
    monkeypatch.chdir(ROOT)
    line, printed = enter(f"--workdir={tmp_path}", *options)
    assert line.startswith("error: ") and part in line and "\n" not in line
    started = "run the stage" in line  # only a stage can know
    assert printed.out.count("\n") == started and printed.err == ""


def test_bad_input_ends_a_process_with_one_line_and_status_1(tmp_path):
    processes = {name: start(tmp_path / name, *BAD_INPUT[name][0]) for name in IN_A_PROCESS}
    for name, process in processes.items():
        status, output = finish(process)
        lines = [line for line in output.splitlines() if line.strip()]
        if name == "stage before its input":
            start_line = lines.pop(0)
            for part in ("ad_jax 0", " x cpu", "1 process", "mesh data=", str(tmp_path / name)):
                assert part in start_line
        assert status == 1, (name, output)
        assert len(lines) == 1 and lines[0].startswith("error: "), (name, output)
        assert BAD_INPUT[name][1] in lines[0], (name, output)


def test_a_bad_value_does_not_spoil_the_workdir(tmp_path, enter, monkeypatch):
    """What was wrong with the config can be corrected in the same folder."""
    monkeypatch.chdir(ROOT)
    for name in ("number too small", "stage before its input", "chunks do not fit"):
        line, _ = enter(f"--workdir={tmp_path}", *BAD_INPUT[name][0])
        assert BAD_INPUT[name][1] in line
    line, _ = enter(f"--workdir={tmp_path}", "--stages=train", "--config.train.steps=50")
    assert "run the stage 'collect' first" in line


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_ends_in_one_clear_line(monkeypatch, number):
    def full(*_, **__):
        raise OSError(number, os.strerror(number), "histories")

    monkeypatch.setattr(app, "run", full)
    with pytest.raises(SystemExit) as ended:
        run.entry_point()
    assert "disk is full" in str(ended.value.code)


def test_a_report_of_older_results_is_made_again(tmp_path, config, enter, monkeypatch):
    """Also if the report is requested later."""
    done, ran = [], []

    def stage(name):
        return pipeline.Stage(lambda *_: [], lambda *_: name in done, lambda *_: ran.append(name))

    for name in ("collect", "train", "evaluate"):
        monkeypatch.setitem(pipeline.STAGES, name, stage(name))
    made = pipeline.STAGES["report"]._replace(
        inputs=lambda *_: [], run=lambda *_: ran.append("report")
    )
    monkeypatch.setitem(pipeline.STAGES, "report", made)
    summary = tmp_path / "report" / report.SUMMARY
    summary.parent.mkdir()
    summary.write_text("{}")
    done += ["collect", "train", "evaluate"]
    run.run(config, tmp_path, pipeline.STAGES, Interruption())
    assert ran == []
    done.remove("evaluate")
    run.run(config, tmp_path, ["evaluate"], Interruption())
    done.append("evaluate")
    run.run(config, tmp_path, pipeline.STAGES, Interruption())
    assert ran == ["evaluate", "report"]
