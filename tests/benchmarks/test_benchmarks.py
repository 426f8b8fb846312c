"""The benchmarks as functions: turns, ratios, the table, and one small round of training."""

import json

import numpy as np
import pytest

from benchmarks import run, timing, train


def test_candidates_take_turns_and_the_first_round_is_not_counted(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def candidate(name, seconds):
        def work():
            calls.append(name)
            clock[0] += 100 if calls.count(name) == 1 else seconds  # the first one compiles

        return work

    seconds = timing.interleave({"a": candidate("a", 1), "b": candidate("b", 3)}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert {k: v.tolist() for k, v in seconds.items()} == {"a": [1, 1], "b": [3, 3]}


def test_a_row_has_the_median_rate_and_ratios_round_by_round():
    mine, other = np.array([1.0, 2.0, 4.0]), np.array([3.0, 2.0, 20.0])
    row = timing.row("train", "mine", 100, mine, "steps", ("other", other, 50))
    assert row["per_second"] == 50
    # 100 in 1 s against 50 in 3 s is 6 times as fast, and so on.
    assert row["ratio"] == {"to": "other", "median": 6, "low": 2, "high": 10}
    assert "ratio" not in timing.row("train", "mine", 100, mine, "steps")


def test_a_row_reads_as_one_line():
    ratio = {"to": "PyTorch", "median": 2.5, "low": 2.0, "high": 3.0}
    line = {"stage": "train", "what": "ours", "per_second": 12345.6, "unit": "steps"}
    assert run.describe(line).split() == ["train", "12,346", "steps/s", "ours"]
    text = run.describe({**line, "ratio": ratio})
    assert text.endswith("ours: 2.50 x PyTorch [2.00, 3.00]")


def test_the_program_times_training_and_stores_the_table(tmp_path, monkeypatch, capsys):
    for name, value in (("BATCH", 2), ("STEPS", 1)):
        monkeypatch.setattr(train, name, value)
    shape = dict(width=8, num_layers=1, num_heads=2, mlp_width=8)
    monkeypatch.setattr(train, "SHAPE", shape)
    monkeypatch.setattr(train, "_torch", lambda *_: None)  # an extra
    monkeypatch.setitem(run.STAGES, "train", lambda rounds: train.run(rounds, contexts=(10,)))
    monkeypatch.setattr(run, "keep_freed_memory", lambda: None)
    output = tmp_path / "new" / "table.json"
    run.main(["--quick", "--stages=train", f"--output={output}"])
    table = json.loads(output.read_text())
    assert table["rounds"] == 4
    rows = {row["what"]: row for row in table["rows"]}
    assert rows.keys() == {"ad_jax, context 10", "ad_jax with dense attention, context 10"}
    assert all(row["per_second"] > 0 for row in rows.values())
    assert capsys.readouterr().out.count("\n") == len(rows) + 1


def test_an_unknown_stage(capsys):
    with pytest.raises(SystemExit):
        run.main(["--stages=trian"])
    assert "trian: choose from collect,train" in capsys.readouterr().err
