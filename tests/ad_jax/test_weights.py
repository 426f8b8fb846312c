"""The learners that come with the package: each does what its card says."""

import numpy as np
import pytest

from ad_jax.config import stored
from ad_jax.learner import WEIGHTS, load, shipped
from data_pipelines.files import read_json
from experiments.export import card

# Episodes of a test, and rollouts of each held-out task.
SIZES = {
    "adversarial_bandit": (1, 4),
    "dark_room": (20, 16),
    "dark_room_hard": (30, 8),
    "dark_key_to_door": (10, 4),
}


def test_these_come_with_the_package():
    assert shipped() == sorted(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_it_learns_held_out_tasks_as_its_results_say(name):
    """In new rollouts of the same tasks, mean returns agree within four standard errors.

    The committed means are taken over at least as many rollouts, so twice the variance is enough.
    """
    episodes, rollouts = SIZES[name]
    results = read_json(WEIGHTS / f"{name}.json", "")["summary"]["heldout"]
    returns = load(name).evaluate(episodes=episodes, rollouts=rollouts, seed=123)
    assert returns.shape == (results["tasks"], rollouts, episodes)
    of_tasks = returns.var(1, ddof=1).sum(0) / rollouts / results["tasks"] ** 2
    error = np.sqrt(2 * of_tasks) + 1e-3
    difference = returns.mean((0, 1)) - np.array(results["return"][:episodes])
    for mark in {0, episodes // 2, episodes - 1}:
        assert abs(difference[mark]) < 4 * error[mark], (mark, difference[mark], error[mark])


@pytest.mark.parametrize("name", SIZES)
def test_its_card_is_made_from_its_results(name):
    """``python -m experiments.export`` writes both."""
    results = read_json(WEIGHTS / f"{name}.json", "")
    assert (WEIGHTS / f"{name}.md").read_text() == card(results)
    assert "dirty" not in results["summary"]["commit"]
    assert load(name).config.to_dict() == stored(results["config"]).to_dict()
    assert (WEIGHTS / f"{name}.safetensors").stat().st_size < 700_000
