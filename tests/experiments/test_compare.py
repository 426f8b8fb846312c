import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ad_jax.errors import UserError
from ad_jax.evaluation import statistics
from experiments import compare
from experiments.configs import cart_pole, dark_room
from experiments.stages import evaluate


def run(folder, returns, config=None, heldout=(0, 4)):
    """A workdir as the stage "evaluate" leaves it; tasks 0 and 4 have the optima 7 and 8."""
    config = dark_room.get_config("smoke") if config is None else config
    (folder / "evaluation").mkdir(parents=True)
    (folder / "config.json").write_text(config.to_json())
    np.savez(
        folder / "evaluation" / evaluate.RESULTS, task=np.array([*heldout, 1]),
        group=np.array(["heldout", "heldout", "train"]), returns=returns,
    )  # fmt: skip
    return str(folder)


@pytest.fixture
def runs(tmp_path):
    rng = np.random.default_rng(0)
    make = lambda seeds, top: np.linspace(0, top, 6) + rng.normal(size=(seeds, 3, 8, 6)) * 0.3
    return {
        "good": run(tmp_path / "good", make(2, 6.0)),
        "more": run(tmp_path / "more", make(1, 6.0)),
        "poor": run(tmp_path / "poor", make(1, 2.0)),
    }


def test_runs_are_drawn_and_listed(runs, tmp_path, capsys):
    arguments = [f"Good={runs['good']}", f"Good={runs['more']}", runs["poor"]]
    compare.main([*arguments, f"--out={tmp_path / 'out'}"])
    output = capsys.readouterr().out
    made = json.loads((tmp_path / "out" / "compared.json").read_text())
    assert list(made["methods"]) == ["Good", "poor"]
    good, poor = made["methods"].values()
    assert (good["seeds"], poor["seeds"], made["tasks"]) == (3, 1, 2)
    assert "improvement" not in good and poor["improvement"] < 0.05
    assert good["mean_ci95"][0] < good["mean"] < good["mean_ci95"][1]
    assert good["profile"][0] == 1 and good["profile"][-1] < 0.5
    assert "no verdict on methods" in output and f"{good['mean']:.2f} [" in output
    picture = np.asarray(Image.open(tmp_path / "out" / "compared.png").convert("L"))
    assert picture.std() > 5
    assert (tmp_path / "out" / "compared.pdf").read_bytes().startswith(b"%PDF")


def test_scores_are_returns_over_the_optimum_of_held_out_tasks(runs):
    scores, chance, facts = compare.gather([runs["good"]])
    _, tasks, returns = compare.load(runs["good"])
    assert tasks.tolist() == [0, 4] and returns.shape == (2, 2, 8, 6)
    # The corner is two steps from the centre of 3 × 3; the centre itself pays on every step.
    np.testing.assert_allclose(scores["good"], returns / np.array([7, 8])[:, None, None])
    assert facts["unit"] == "return / optimal return" and (chance < 0.5).all()
    made = compare.compare(scores)["good"]
    end = statistics.last_tenth(scores["good"]).mean(-1)
    assert np.isclose(made["mean"], end.mean())
    np.testing.assert_allclose(made["mean_ci95"], statistics.confidence_interval(end))


def test_without_a_known_optimum_returns_are_shown_as_they_are(tmp_path):
    config = cart_pole.get_config("smoke")
    path = run(tmp_path / "cart", np.ones((1, 3, 4, 2)) * 20, config)
    scores, _, facts = compare.gather([path])
    assert facts["unit"] == "return" and (scores["cart"] == 20).all()
    assert facts["presets"] == ["smoke"]
    words = [text.get_text() for text in compare.draw(compare.compare(scores), facts, 10.0).texts]
    assert "not a result" in " ".join(words)


def test_what_can_not_be_compared_is_one_clear_line(runs, tmp_path):
    other = run(tmp_path / "other", np.zeros((1, 3, 8, 6)), heldout=(2, 3))
    with pytest.raises(UserError, match="was evaluated on other tasks than"):
        compare.gather([runs["good"], other])
    short = run(tmp_path / "short", np.zeros((1, 3, 8, 5)))
    with pytest.raises(
        UserError, match=r"has \(8, 5\) rollouts and episodes, but .* the same numbers"
    ):
        compare.gather([runs["good"], short])
    with pytest.raises(UserError, match="is not a workdir"):
        compare.gather([str(tmp_path / "nothing")])
    shutil.rmtree(tmp_path / "short" / "evaluation")
    with pytest.raises(UserError, match="is not evaluated"):
        compare.gather([short])
