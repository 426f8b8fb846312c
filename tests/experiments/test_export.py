import jax
import numpy as np
import pytest

from ad_jax.errors import UserError
from ad_jax.learner import load
from data_pipelines.files import read_json
from experiments import export
from experiments.configs import adversarial_bandit, dark_room


def test_a_run_becomes_a_learner_with_its_card(smoke_run, tmp_path, capsys):
    workdir, _ = smoke_run
    export.main([f"--workdir={workdir}", "--name=mine", f"--to={tmp_path}", "--note=Only a test."])
    assert capsys.readouterr().out.count("mine.") == 3
    learner = load(tmp_path / "mine.safetensors")
    jax.tree.map(np.testing.assert_array_equal, learner.params, load(workdir).params)
    results = read_json(tmp_path / "mine.json", "")
    card = (tmp_path / "mine.md").read_text()
    assert card == export.card(results)
    assert "--config=dark_room:smoke`" in card and "Only a test." in card
    final = results["summary"]["heldout"]["final"]
    assert f"**{final:.2f}**" in card


def test_what_was_changed_of_a_preset_is_in_the_command():
    config = dark_room.get_config("smoke")
    config.train.steps = 30
    made = "python -m experiments.run --config=dark_room:smoke --config.train.steps=30"
    assert export.command(config) == made
    assert "adversarial_bandit:cpu" in export.command(adversarial_bandit.get_config("cpu"))
    config.preset = "mine"
    assert export.command(config).endswith("a config of its own")


def test_what_can_not_be_exported_is_one_clear_line(smoke_run, tmp_path):
    with pytest.raises(UserError, match="--name=a/b: give letters"):
        export.export(smoke_run[0], "a/b", tmp_path)
    with pytest.raises(UserError, match="is not a learner"):
        export.export(tmp_path / "nothing", "mine", tmp_path)
