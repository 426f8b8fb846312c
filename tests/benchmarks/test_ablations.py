"""Rows of the ablation table are runs of the preset with one thing changed."""

import json

import pytest

from benchmarks import ablations
from experiments.configs import dark_room

SMOKE = "experiments/configs/dark_room.py:smoke"


@pytest.mark.parametrize("name", ablations.ROWS)
def test_every_row_changes_something_that_there_is(name):
    config = dark_room.get_config("quickstart")
    before = config.to_json()
    config.update_from_flattened_dict(ablations.ROWS[name].changes)
    assert (config.to_json() == before) == (name == "quickstart")


def test_a_row_is_of_all_seeds_and_of_validation_tasks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ablations, "SEEDS", (0, 1))
    runs, output = tmp_path / "runs", tmp_path / "new" / "table.json"
    options = [f"--runs={runs}", f"--config={SMOKE}", "--rows=layers", f"--output={output}"]
    ablations.main(options)
    table = json.loads(output.read_text())
    (row,) = table["rows"]
    assert row["title"] == "3 layers" and row["changes"] == {"model.num_layers": 3}
    assert len(row["curve"]) == 2 and len(row["curve"][0]) == 4
    assert row["ci95"][0] <= row["final"] <= row["ci95"][1] and 0 <= row["below_half"] <= 1
    assert set(row["seconds"]) == {"collect", "train", "evaluate"}
    stored = [json.loads((runs / f"layers-{seed}/config.json").read_text()) for seed in (0, 1)]
    assert [config["seed"] for config in stored] == [0, 1]
    assert {config["evaluation"]["tasks"] for config in stored} == {"validation"}
    assert capsys.readouterr().out.rstrip().endswith("3 layers")
    made = [p.stat().st_mtime_ns for p in sorted(runs.glob("*/evaluation/rollouts.npz"))]
    ablations.main(options)  # finished runs are not repeated
    assert made == [p.stat().st_mtime_ns for p in sorted(runs.glob("*/evaluation/rollouts.npz"))]


def test_all_rows_are_measured_unless_some_are_named(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        ablations, "measure",
        lambda config, runs, name: asked.append(name) or {"title": "", "final": 1, "ci95": [0, 1]},
    )  # fmt: skip
    output = f"--output={tmp_path / 'table.json'}"
    ablations.main([output])
    assert asked == list(ablations.ROWS)
    with pytest.raises(SystemExit):
        ablations.main([output, "--rows=quickstart,sgd"])
    assert "--rows=sgd: choose from quickstart,ppo" in capsys.readouterr().err
