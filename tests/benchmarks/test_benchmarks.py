"""The functions of the benchmarks: turns, ratios, tables, and one small round of training."""

import json
import pathlib

import jax
import numpy as np
import pytest

from ad_jax import build
from ad_jax.distributed import sharding
from ad_jax.methods.optimizer import OptimizerConfig, make_optimizer
from ad_jax.methods.train_state import TrainState, init_state
from benchmarks import checkpoints, collect, cores, run, timing, tpu, train
from experiments.configs import dark_room
from experiments.runtime import memory


def test_candidates_take_turns_and_the_first_round_is_not_counted(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def candidate(name, seconds):
        def work():
            calls.append(name)
            clock[0] += 100 if calls.count(name) == 1 else seconds  # the first call compiles

        return work

    seconds = timing.interleave({"a": candidate("a", 1), "b": candidate("b", 3)}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert {k: v.tolist() for k, v in seconds.items()} == {"a": [1, 1], "b": [3, 3]}


def test_the_first_candidate_is_compared_round_by_round():
    seconds = {"ours": np.array([1.0, 2.0, 4.0]), "other": np.array([3.0, 2.0, 20.0])}
    ours, other = timing.table("train", "steps", seconds, {"ours": 100, "other": 50})
    assert ours["per_second"] == 50 and "ours_is_times" not in ours
    # 100 in 1 s against 50 in 3 s is 6 times as fast, and so on.
    assert other["ours_is_times"] == {"median": 6, "low": 2, "high": 10, "rounds": 3}


def test_each_peer_is_compared_with_the_one_it_stands_beside():
    seconds = {name: np.array([s, s]) for name, s in dict(all=1, peer=2, one=4, other=2).items()}
    facts = {"one": {"beside": None}, "other": {"beside": "one", "peer": "P", "fair": True}}
    rows = timing.table("collect", "steps", seconds, dict.fromkeys(seconds, 8), facts)
    assert [row["beside"] for row in rows] == [None, "all", None, "one"]
    assert [row.get("ours_is_times", {}).get("median") for row in rows] == [None, 2, None, 0.5]
    assert rows[3]["peer"] == "P" and rows[3]["fair"]


def test_a_row_reads_as_one_line():
    spread = {"median": 2.5, "low": 2.0, "high": 3.0}
    line = {"stage": "train", "what": "ours", "per_second": 12345.6, "unit": "steps"}
    assert run.describe(line).split() == ["train", "12,346", "steps/s", "ours"]
    text = run.describe({**line, "ours_is_times": spread, "setting": {"parts": 2, "threads": 1}})
    assert text.endswith("ours (parts 2, threads 1); ours is 2.50 [2.00, 3.00] times as fast")
    text = run.describe({"stage": "collect", "what": "P", "left_out": "no package"})
    assert text == "collect  P is left out: no package"
    assert "2.50 [2.00, 3.00] of a matrix product" in run.describe({**line, "share": spread})


def test_the_program_times_training_and_stores_the_table(tmp_path, monkeypatch, capsys):
    shape = dict(width=8, num_layers=1, num_heads=2, mlp_width=8)
    monkeypatch.setattr(train, "SHAPE", shape)
    monkeypatch.setattr(train, "PYTORCH", ("PyTorch", "no_such_module"))  # an extra
    monkeypatch.setitem(run.QUICK, "train", {"contexts": (10,)})
    monkeypatch.setattr(memory, "keep_freed_memory", lambda: None)
    output = tmp_path / "new" / "table.json"
    run.main(["--quick", "--stages=train", f"--output={output}"])
    table = json.loads(output.read_text())
    assert table["rounds"] == 5
    rows = {row["what"]: row for row in table["rows"]}
    timed = {"ad_jax, context 10", "ad_jax, the batch at once, context 10"}
    assert all(rows[what]["per_second"] > 0 for what in timed)
    assert rows["PyTorch"]["left_out"].startswith("not installed")
    assert rows.keys() - timed == {"PyTorch", *train.LEFT_OUT}
    assert capsys.readouterr().out.count("\n") == len(rows)


def test_one_goal_is_not_compared_with_all_of_them(monkeypatch):
    """And a peer that is not installed is listed as left out."""
    monkeypatch.setattr(collect, "STREAMS", 2)
    monkeypatch.setattr(collect, "UPDATES", {"ad_jax": (2, 1)})
    monkeypatch.setattr(collect, "REJAX", "no/such/python")
    monkeypatch.setattr(collect, "STABLE_BASELINES3", ("Stable-Baselines3", "no_such_module"))
    rows = collect.run(rounds=1)
    every, table, one, *others = rows
    assert "81 tasks" in every["what"] and every["setting"] == {"devices": jax.device_count()}
    assert table["beside"] == every["what"] and table["ours_is_times"]["rounds"] == 1
    assert "1 task x" in one["what"] and one["setting"] == {"devices": 1}
    assert every["beside"] is None and one["beside"] is None
    assert all(0 <= row["worst_return_of_optimum"] <= 1 for row in (every, table, one))
    assert {row["what"] for row in others} == {"rejax", "Stable-Baselines3", "purejaxrl"}
    assert all(row["left_out"] for row in others)


def test_a_stage_that_fails_does_not_cost_the_others(tmp_path, monkeypatch, capfd):
    """Not even one that kills its process."""
    package = tmp_path / "benchmarks"
    package.mkdir()
    (package / "__init__.py").touch()
    source = pathlib.Path(run.__file__).read_text()
    (package / "run.py").write_text(source)
    (package / "collect.py").write_text("import os\ndef run(rounds): os.abort()")
    row = {"stage": "data", "what": "bytes", "size": 1.0}
    (package / "data.py").write_text(f"def run(rounds): return [{row}]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(run.__file__).parents[1]))
    output = tmp_path / "table.json"
    with pytest.raises(SystemExit, match="failed: collect; the rows of the others"):
        run.main(["--quick", "--stages=collect,data", f"--output={output}"])
    table = json.loads(output.read_text())
    assert (table["failed"], table["rows"]) == (["collect"], [row])
    assert table["seconds"].keys() == {"collect", "data"} and min(table["seconds"].values()) > 0
    assert "collect  FAILED with status -6" in capfd.readouterr().out


def test_an_unknown_stage(capsys):
    with pytest.raises(SystemExit):
        run.main(["--stages=trian"])
    assert "trian: choose from collect,train" in capsys.readouterr().err


def test_a_checkpoint_is_weighed_against_the_steps_until_the_next(monkeypatch):
    """Steps take 10 ms. A checkpoint takes 3 ms, and slows the next two steps down by 1 ms each."""
    clock, slow = [0.0], [0]
    monkeypatch.setattr(checkpoints.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(checkpoints, "SECONDS", 0.04)

    def advance(state):
        clock[0] += 0.010 + 0.001 * (slow[0] > 0)
        slow[0] -= 1
        return state, np.zeros(())

    class Saves(checkpoints.Checkpoints):
        def save(self, step, state, metadata):
            super().save(step, state, metadata)
            clock[0] += 0.003
            slow[0] = 2

    params = {"kernel": np.zeros((256, 1024), np.float32)}
    state = TrainState(np.zeros((), np.int32), params, ())
    monkeypatch.setattr(checkpoints, "Checkpoints", Saves)
    monkeypatch.setattr(checkpoints, "_training", lambda config: (state, advance))
    (row,) = checkpoints.run(2, {"dark_room:smoke": {"train.checkpoint_every": 50}})
    assert row["what"] == "dark_room:smoke, every 50 steps"
    assert row["state_mib"] == pytest.approx(1, abs=1e-4)
    assert (row["step_ms"], row["waits_ms"], row["costs_ms"]) == pytest.approx((10, 3, 5))
    assert (row["percent_of_training"], row["percent_at_most"]) == pytest.approx((1, 1))
    assert "percent of training 1.00" in run.describe(row)


def test_a_checkpoint_of_a_real_model_is_written(monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 0.02)
    (row,) = checkpoints.run(1, {"dark_room:smoke": {}})
    assert row["state_mib"] > 0 and row["step_ms"] > 0 and row["waits_ms"] > 0


def test_a_roofline_is_the_longest_of_three_times():
    chip = tpu.Chip(16, 100e12, 1e12, 1e11)
    found = {
        "tflop": {"needed": 60.0, "computed": 80.0}, "moved_gib": 0.1,
        "collectives": {"all-gather": {"sent_mib": 500.0}, "all-reduce": {"sent_mib": 500.0}},
    }  # fmt: skip
    got = tpu.roofline(found, chip, 4)
    assert got["compute_ms"] == got["step_ms"] == 200 and got["utilisation"] == 0.75
    assert got["memory_ms"] == pytest.approx(0.1 * 2**30 / 1e9, abs=1e-3)
    assert got["sending_ms"] == pytest.approx(1000 * 2**20 / 1e8, abs=1e-3)
    slow = tpu.roofline(found, chip._replace(sent_bytes_per_second=1e9), 4)
    assert slow["step_ms"] == slow["sending_ms"] and slow["utilisation"] < 0.15


def test_spread_parameters_are_sent_around_and_not_activations():
    """In a program for 4 devices, the bytes gathered are a few times those of the parameters."""
    config = dark_room.get_config("smoke")
    config.train.batch_size = 512
    costs = tpu.costs(config, sharding.make_mesh(data=1, fsdp=4))
    model = build.model(config, build.world(config).env)
    state = jax.eval_shape(
        lambda: init_state(jax.random.key(0), model, make_optimizer(OptimizerConfig(), 1000))
    )
    parameters = sum(x.size * 4 for x in jax.tree.leaves(state.params)) / 2**20
    activations = 512 * 16 * 16 * 4 / 2**20  # of one layer's input
    assert activations > 20 * parameters
    gathered = costs["collectives"]["all-gather"]["mib"]
    assert 0 < gathered < 5 * parameters


def test_only_the_transformer_remembers_more_with_a_longer_context(monkeypatch):
    monkeypatch.setattr(cores, "CORES", ("transformer", "rglru"))
    for name, few in (("TRANSITIONS", 400), ("AGENTS", 4), ("STEPS", 4)):
        monkeypatch.setattr(cores, name, few)
    rows = [row for context in (40, 80) for row in cores.run(1, (context,))]
    acting = [row for row in rows if row["setting"]["part"] == "acting"]
    memory = {(r["setting"]["core"], r["setting"]["context"]): r["memory_bytes"] for r in acting}
    grows = {core for core, context in memory if memory[core, 40] < memory[core, 80]}
    assert grows == {"transformer"} and all(row["per_second"] > 0 for row in rows)
    assert not any(row["beside"] for row in rows)  # all are ours
