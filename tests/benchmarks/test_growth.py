"""How cost grows: slopes and verdicts, and every chart at a tiny size."""

import contextlib
import io
import json
import subprocess
import sys
import time
import tracemalloc

import jax
import numpy as np
import pytest

from benchmarks import growth, run
from benchmarks.growth import (
    acting,
    collecting,
    devices,
    fit,
    histories,
    limited,
    picture,
    shards,
    starting,
    training,
)
from data_pipelines.reader import Histories, Selection
from data_pipelines.windows import make_sampler
from docs.blocks import scale

SIZES = (1, 10, 100, 1000, 10_000)


def line(values, law, sizes=SIZES):
    return fit.Line("collect", "time of the stage", "s", "tasks", sizes, values, law, "tasks")


def test_a_fixed_cost_at_small_sizes_does_not_hide_the_slope():
    n = np.array(SIZES, float)
    (found,) = fit.slopes(SIZES, [5 + n**2])
    assert abs(found - 2) < 0.01
    (all_of_them,) = np.polyfit(np.log(n), np.log(5 + n[None] ** 2).T, 1)[0]
    assert all_of_them < 1.9


@pytest.mark.parametrize(("slopes", "verdict"), [
    ((1.0, 1.05), fit.AS_IT_MUST), ((1.2, 1.3), fit.FASTER), ((1.05, 1.3), fit.AS_IT_MUST),
    ((0.5, 0.6), fit.SLOWER), ((0.5, 1.3), fit.AS_IT_MUST),
])  # fmt: skip
def test_the_verdict_needs_every_round(slopes, verdict):
    row = fit.row(line([np.array(SIZES, float) ** slope for slope in slopes], SIZES))
    assert row["verdict"] == verdict and row["must"] == pytest.approx(1)
    assert row["slope"]["low"] == pytest.approx(slopes[0])
    assert row["values"]["high"][-1] == pytest.approx(1e4 ** slopes[1])


def test_a_law_that_is_no_power_is_fitted_like_the_cost():
    cost = np.array([100 + n for n in SIZES], float)
    row = fit.row(line([3 * cost], cost))
    assert row["slope"]["median"] == pytest.approx(row["must"]) and 0 < row["must"] < 1


def test_a_cost_that_is_not_positive_has_no_slope():
    with pytest.raises(ValueError, match=r"collect: time of the stage: .* greater than 0"):
        fit.row(line([[1.0, 2.0, 0.0, 3.0, 4.0]], SIZES))


@pytest.mark.parametrize(("number", "kept"), [(2, 2), (3, 2), (4, 3), (5, 3), (6, 4)])
def test_the_larger_half_has_the_middle_and_two_sizes_at_least(number, kept):
    assert list(range(number))[fit.larger_half(number)] == list(range(number - kept, number))


def test_rows_read_as_lines(capsys):
    text = run.describe(fit.row(line([np.array(SIZES, float)], SIZES)))
    assert text == (
        "growth   collect: time of the stage: 1e+04 s at 1e+04 tasks, "
        "grows as n^1 [1, 1], must as n^1.00: as it must"
    )
    spread = {"low": 1.0, "median": 2.0, "high": 3.0}
    parts = {"stage": "growth", "chart": "start", "what": "first", "unit": "s",
             "parts": {"imports": spread}}  # fmt: skip
    assert run.describe(parts) == "growth   start: first (s): imports 2 [1, 3]"


def test_small_sizes_are_sizes_of_the_charts(monkeypatch):
    """``run`` passes only arguments that the charts have."""
    given = {}
    for name in growth.CHARTS:
        chart = growth.importlib.import_module(f"benchmarks.growth.{name}")
        parameters = chart.run.__code__.co_varnames[: chart.run.__code__.co_argcount]
        assert set(growth.SMALL.get(name, {})) <= set(parameters)
        record = lambda rounds, name=name, **sizes: given.update({name: (rounds, sizes)}) or []
        monkeypatch.setattr(chart, "run", record)
    assert growth.run(9) == [] and given["acting"] == (3, {})
    given.clear()
    growth.run(2, small=True)
    assert given["histories"] == (2, growth.SMALL["histories"])
    assert set(growth.CHARTS) - set(given) == set(growth.LARGE)


@pytest.fixture
def one(tmp_path, monkeypatch):
    for name, value in {"STREAMS": 2, "STEPS": 200, "RECORD": 40}.items():
        monkeypatch.setattr(shards, name, value)
    return shards.write(tmp_path / "one", 2 * 2 * 200 * shards.STEP_BYTES)


def test_a_data_set_of_many_shards_has_all_its_rows(one, tmp_path):
    for name, repeat in {"links": shards.os.link, "copies": shards.copy}.items():
        size = shards.repeated(one, tmp_path / name, 3, repeat)
        found, of_one = Histories(tmp_path / name), Histories(one.folder)
        assert size == 3 * one.path(0).stat().st_size
        assert found.task.tolist() == np.repeat(np.arange(6), 2).tolist()
        rows, steps = np.arange(12)[:, None], np.arange(200)
        want = of_one.read(np.arange(12)[:, None] % 4, steps)["observation"]
        np.testing.assert_array_equal(found.read(rows, steps)["observation"], want)
        files = {p.stat().st_ino for p in (tmp_path / name).glob("*-00003")}
        assert len(files) == (1 if name == "links" else 3)


def test_opening_and_windows_are_measured(one, monkeypatch):
    monkeypatch.setattr(histories, "BATCHES", 2)
    seconds, memory, of_a_window = histories.measure(str(one.folder))
    assert seconds > 0 and of_a_window > 0
    again = histories.measure(str(one.folder))[1]
    assert memory > 0 and again == pytest.approx(memory, rel=0.1)


def test_the_time_of_a_draw_does_not_depend_on_the_rows(one, tmp_path):
    """No array with an entry for each row is allocated for a batch."""
    peaks, rows = [], []
    for number in (1, 300):
        folder = tmp_path / f"{number}"
        shards.repeated(one, folder, number, shards.os.link)
        found, selection = Histories(folder), Selection()
        sampler = make_sampler(found, selection=selection, context=8, batch_size=4, seed=0)
        sampler.draw(0)
        with contextlib.ExitStack() as stack:
            tracemalloc.start()
            stack.callback(tracemalloc.stop)
            sampler.draw(1)
            peaks.append(tracemalloc.get_traced_memory()[1])
        rows.append(len(found.task))
    assert peaks[1] < peaks[0] + rows[1]  # not one byte for each row


SMALLEST = dict(width=8, num_layers=1, num_heads=2, mlp_width=8)


def test_training_by_context_and_by_model(monkeypatch):
    monkeypatch.setattr(training, "PRESET", "dark_room:smoke")
    monkeypatch.setattr(training, "TRANSITIONS", 64)
    monkeypatch.setattr(training, "MODEL_TRANSITIONS", 320)
    monkeypatch.setattr(training, "WINDOW", 4)
    monkeypatch.setattr(training, "SHAPES", {1.0: (1, 8), 2.0: (1, 12), 3.0: (2, 12)})
    rows = training.run(1, (8, 16), (1.0, 2.0), (3.0,))
    by_what = {row["what"]: row for row in rows}
    windowed = by_what["time of a transition, attention over 4 steps"]
    whole = by_what["time of a transition, attention over all steps"]
    assert windowed["must"] < whole["must"]
    counted = by_what["FLOPs of a transition, as compiled"]
    assert counted["sizes"] == [1.0, 2.0, 3.0]
    # The compiler counts the rest of the step as well.
    assert all(m > 0.9 * law for m, law in zip(counted["values"]["median"], counted["law"],
                                               strict=True))  # fmt: skip


def test_acting(monkeypatch):
    monkeypatch.setattr(acting, "SHAPE", SMALLEST)
    monkeypatch.setattr(acting, "STEPS", 2)
    by_context, by_tasks = acting.run(1, (4, 8), (1, 6))
    assert by_context["sizes"] == [4, 8] and by_tasks["must"] == pytest.approx(1)
    assert min(by_context["values"]["low"]) > 0


def test_devices_send_gradients_as_a_ring_does(monkeypatch):
    monkeypatch.setattr(devices, "WIDTH", 16)
    monkeypatch.setattr(devices, "HEADS", 4)
    state = jax.eval_shape(
        growth.importlib.import_module("benchmarks.presets").training(devices.configured())[1],
        jax.random.key(0),
    )
    gradients = sum(x.size * 4 for x in jax.tree.leaves(state.params)) / 2**20
    summed = 2 * (jax.device_count() - 1) / jax.device_count() * gradients
    assert summed <= devices.sent("data") + 0.001 < 1.2 * summed + 0.01
    laws = devices.laws(devices.configured())
    needed = lambda n: {axis: law(n) for axis, (law, _) in laws.items()}
    monkeypatch.setattr(devices, "_in_a_process", needed)
    rows = devices.run(1, (1, 2, 4))
    assert [row["what"].split(".")[1] for row in rows] == list(devices.MESHES)
    assert [row["sizes"] for row in rows] == [[2, 4]] * 4
    assert {row["verdict"] for row in rows} == {fit.AS_IT_MUST}
    monkeypatch.setattr(devices, "_in_a_process", lambda n: dict.fromkeys(laws, n * 1.0))
    assert {row["verdict"] for row in devices.run(1, (1, 2, 4))} == {fit.FASTER}


def test_what_a_sequence_sends_is_its_law(monkeypatch):
    monkeypatch.setattr(devices, "WIDTH", 16)
    monkeypatch.setattr(devices, "HEADS", 4)
    law, _ = devices.laws(devices.configured())["sequence"]
    found = devices.sent("sequence") * 2**20 / 4  # numbers
    assert found == pytest.approx(law(jax.device_count()), rel=0.05)


def test_collection_is_the_stage_itself(monkeypatch, capsys):
    monkeypatch.setattr(collecting, "PRESET", "adversarial_bandit:smoke")
    assert collecting.collect(2) > 0
    assert capsys.readouterr().out == ""  # only answers go to stdout


def test_training_from_disk_and_from_memory(one, monkeypatch):
    monkeypatch.setattr(limited, "PRESET", "dark_room:smoke")
    monkeypatch.setattr(limited, "STEPS", 2)
    with limited.forgotten(one.folder):
        for windows in (limited.DISK, limited.MEMORY):
            limited.trainer(windows, str(one.folder))()
    peak, read = map(float, limited.memory().split())
    assert peak > 0 and read >= 0


def test_training_from_disk_has_half_the_memory_of_its_data_and_is_asked(tmp_path, monkeypatch):
    """With a stand-in for the processes, which answers at once."""
    (tmp_path / "quick.py").write_text(
        "import sys\n"
        "from benchmarks import peers\n"
        "answers = {'memory': lambda: f'{int(sys.argv[3]) / 1e9} 0.5'}\n"
        "peers.serve('quick', {'work': ({}, lambda: None)}, answers)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:.")
    monkeypatch.setattr(limited, "MODULE", "quick")
    for name, value in {"STREAMS": 2, "STEPS": 200, "RECORD": 40}.items():
        monkeypatch.setattr(shards, name, value)
    monkeypatch.setattr(limited, "SMALL", 1e3)
    monkeypatch.setattr(limited, "SHARD", 1e4)
    (row,) = limited.run(2, 5e4)
    assert row["gb_allowed"] == pytest.approx(row["gb_stored"] / 2, rel=1e-3)
    assert row["gb_peak"] == row["gb_allowed"]  # the stand-in answers with what it was given


def test_imports_are_summed_by_package(monkeypatch):
    monkeypatch.setattr(starting, "PROGRAM", "import json.decoder, email.message")
    monkeypatch.setattr(starting, "HEAVIEST", 1000)
    found = starting.packages()
    assert {"json", "email"} <= found.keys() and not any("." in name for name in found)


def test_the_parts_of_a_start(monkeypatch, tmp_path):
    program = (
        "from benchmarks.growth import starting\n"
        "starting.PRESET = 'dark_room:smoke'\n"
        "import json, sys; print(json.dumps(starting.parts(float(sys.argv[1]))))"
    )
    began = time.time()
    command = [sys.executable, "-c", program, str(began)]
    done = subprocess.run(command, check=True, capture_output=True)
    parts = json.loads(done.stdout.splitlines()[-1])
    assert list(parts) == ["Python, imports", "objects", "tracing", "programs", "first step"]
    assert min(parts.values()) > 0 and sum(parts.values()) < time.time() - began


def test_the_picture_has_a_panel_for_each_cost():
    spread = {"low": 0.9, "median": 1.0, "high": 1.1}
    rows = [
        fit.row(line([np.array(SIZES, float), np.array(SIZES) * 1.1], SIZES)),
        fit.row(line([np.ones(5)], SIZES)._replace(what="memory, small")),
        fit.row(line([np.ones(5) * 2], SIZES)._replace(what="memory, large")),
        {"stage": "growth", "chart": "start", "what": "first", "parts": {"imports": spread}},
        {"stage": "growth", "chart": "larger than memory", "what": "", "gb_stored": 6.0,
         "gb_allowed": 3.0, "gb_peak": 1.0, "of_the_speed_from_memory": spread},
    ]  # fmt: skip
    figure = picture.draw({"device": "a CPU", "rows": rows})
    titles = [axis.get_title() for axis in figure.axes if axis.axison]
    assert titles[:3] == ["collect: time of the stage", "collect: memory",
                          "parts of a start"]  # fmt: skip
    legend = figure.axes[1].get_legend().get_texts()
    assert [text.get_text()[:6] for text in legend] == ["small:", "large:"]
    figure.savefig(io.BytesIO())


def test_the_page_names_what_grows_faster():
    rows = [fit.row(line([np.array(SIZES, float) ** 2], SIZES))]
    found = {scale.GROWTH: {"rows": rows, "device": "2 x cpu", "rounds": 3}}
    measured, _, *table = scale.growth(found).splitlines()
    assert measured == "2 × cpu; rounds: 3."
    assert "**faster**" in table[2] and "n^2.00" in table[2]
