import json
import math
import warnings

import numpy as np
import pytest

from ad_jax.errors import UserError
from experiments.pictures import curves, style
from experiments.stages import evaluate, report

GROUP = np.array(["heldout", "heldout", "train"])


def summary_of(reference, returns=None, zero=(0.0, 0.0, 0.0)):
    """A summary of 3 tasks, 2 rollouts and 4 episodes."""
    if returns is None:
        returns = np.random.default_rng(0).normal(size=(3, 2, 4)) - 3
    found = report.summarize(
        {"returns": returns[None], "group": GROUP}, np.array(zero), np.array(reference),
        np.array([-5.0, -4.0, -3.0]),
    )  # fmt: skip
    return {
        "environment": "World", "method": "AD", "reference": "one", "unit": "return", "episodes": 4,
        "preset": "cpu", "rollouts_per_task": 2, "seeds": [0], "intervals_over": "tasks",
        "groups": ["heldout", "train"], "seconds": {"train": 1.0}, **found,
        "source": {"return": [-2.0] * 4, "normalized": [math.nan] * 4},
    }  # fmt: skip


@pytest.mark.parametrize("reference", [(-1.0, -2.0, 0.0), (0.0, -1.0, 2.0)])
def test_a_reference_that_is_not_positive_leaves_gaps(reference, tmp_path):
    """No warnings; null in the summary, a dash in the table, and a curve of returns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = summary_of(reference)
        style.save(curves.learning_curve(summary), tmp_path / "curve.png")
        table = report.table(summary)
    stored = json.loads(json.dumps(report.null_for_nan(summary), allow_nan=False))
    assert stored["heldout"]["final"] is None and stored["heldout"]["random_normalized"] is None
    assert stored["heldout"]["normalized"] == [None] * 4
    assert stored["heldout"]["ci95"] == [[None] * 2] * 4
    assert stored["heldout"]["per_task_final"] == [] and stored["heldout"]["unsolvable_tasks"] == 2
    assert np.isfinite(stored["heldout"]["return"]).all()
    assert "nan" not in table and "–" in table
    assert (stored["train"]["final"] is None) == (reference[2] <= 0)


def test_returns_below_zero_are_counted_from_a_random_policy():
    """0 is its return, 1 is the source's. Tasks where the source is no better are left out."""
    returns = -np.arange(1.0, 25).reshape(3, 2, 4)
    heldout = summary_of((-2.0, -4.0, -1.0), returns, zero=(-5.0, -4.0, -3.0))["heldout"]
    np.testing.assert_allclose(heldout["normalized"], (returns[0].mean(0) + 5) / 3)
    assert heldout["random_normalized"] == 0 and heldout["unsolvable_tasks"] == 1


def test_a_task_that_cannot_be_solved_counts_in_return_only():
    returns = np.arange(24.0).reshape(3, 2, 4)
    heldout = summary_of((2.0, 0.0, 4.0), returns)["heldout"]
    np.testing.assert_allclose(heldout["normalized"], returns[0].mean(0) / 2)
    np.testing.assert_allclose(heldout["return"], returns[:2].mean((0, 1)))
    assert heldout["random_normalized"] == -2.5


def test_episodes_that_do_not_end_are_refused_in_one_line():
    returns = np.zeros((2, 3))
    evaluate.check_returns(returns, "World")
    returns[0, 1] = np.nan
    with pytest.raises(UserError, match=r"^1 of 6 episodes of World .*max_steps_in_episode"):
        evaluate.check_returns(returns, "World")
