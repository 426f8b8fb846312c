"""The arena runs every entry, skips what is done, and says which entry is better than which."""

import json
import sys

import numpy as np
import pytest

from ad_jax.errors import UserError
from ad_jax.evaluation import statistics
from ad_jax.methods import METHODS
from ad_jax.models import CORES
from experiments import validation
from experiments.arena import __main__ as arena
from experiments.arena import entries, results
from experiments.figures.runs import Results, jobs
from experiments.pictures import style
from experiments.runtime.interruption import Interruption


def test_every_method_and_every_core_enters():
    assert set(METHODS) <= set(entries.ENTRIES)
    assert {f"AD, {core}" for core in CORES} - {"AD, transformer"} <= set(entries.ENTRIES)


def test_methods_share_their_histories_and_their_budget():
    """All that learn from a source's histories: the same ones, and as many transitions."""
    for world, runs in entries.runs("cpu").items():
        histories = {
            name: next(jobs(run, 1))
            for name, run in runs.items()
            if run.config.source.name != "noise"
        }
        shared = {
            job.folder for name, job in histories.items()
            if job.stage == "collect" and name not in (*entries.FROM_SCRATCH, "ED", "BC")
        }  # fmt: skip
        assert len(shared) == 1, world
        steps = {
            name: run.config.train.steps * run.config.train.batch_size * run.config.model.context
            for name, run in runs.items() if name not in (*entries.FROM_SCRATCH, "RL2")
        }  # fmt: skip
        assert len(set(steps.values())) == 1, (world, steps)


def test_other_cores_and_rl2_are_about_as_large_as_the_transformer():
    runs = entries.runs("cpu")["dark_room"]

    class Found:
        def __init__(self, config):
            self.config = config

    size = {name: results.num_parameters(Found(runs[name].config)) for name in runs
            if name in ("AD", "RL2", *entries.OF_CORES)}  # fmt: skip
    assert max(size.values()) < 1.25 * min(size.values()), size


def test_all_of_it_runs_and_is_reported(shared, never, capsys):
    runs = arena.chosen("smoke", "random_mdp", "")
    arena.compete(runs, "smoke", shared, never, 1)
    made = json.loads((shared / "report" / "summary.json").read_text())
    assert set(made["methods"]) == set(entries.ENTRIES) - set(entries.FROM_SCRATCH)
    for name, of_name in made["methods"].items():
        found = of_name["random_mdp"]
        assert np.isfinite(found["curve"]).all() and found["seeds"] == 1
        assert len(found["profile"]) == len(made["thresholds"])
        assert found["parameters"] > 100 and found["run"]["method"]
        assert found["run"]["env_steps"] > 100
        assert ("improvement" in found) == (name != "AD")
    world = made["worlds"]["random_mdp"]
    assert world["random"] < world["optimum"] and world["from_scratch"]["source"]["name"] == "ppo"
    names = {path.name for path in (shared / "report").iterdir()}
    assert {"methods.png", "methods_profiles.pdf", "cores.png"} <= names
    capsys.readouterr()
    arena.compete(runs, "smoke", shared, never, 1)
    printed = capsys.readouterr().out
    number = len(arena.plan(runs["random_mdp"], 1))
    assert f"{number} of {number} jobs are done already" in printed and "ICIQL" in printed


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("arena")


def test_episodes_until_a_score_are_counted_from_one():
    assert results._first_above(np.array([0.1, 0.8, 0.7]), 0.8) == 2
    assert results._first_above(np.array([0.1, 0.2]), 0.8) is None


@pytest.mark.parametrize(
    "options, message",
    [
        (["--preset=big"], "--preset=big: choose one of"),
        (["--methods=AD; PPO"], "--methods: there is no 'PPO': choose from AD; DICP"),
        (["--worlds=maze"], "--worlds: there is no 'maze': choose from adversarial_bandit; linear"),
        (["--methods=source"], "none of these learns in context in adversarial_bandit"),
        (["--methods=AD, gru", "--worlds=point_robot"], "none of these learns in context in"),
        (["--seeds=0"], "--seeds=0: give one or more"),
        ([], "give --workdir"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(UserError, match=message):
        arena.main(options, Interruption())


def test_an_environment_that_is_not_installed_is_missed_only_if_it_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "xminigrid", None)
    assert list(arena.chosen("smoke", "dark_room", "AD")) == ["dark_room"]
    with pytest.raises(UserError, match="XLand' needs xminigrid"):
        arena.chosen("smoke", "xland", "AD")


def test_the_list_runs_nothing(capsys):
    arena.main(["--list", "--preset=smoke", "--methods=AD; source"], Interruption())
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "preset smoke, 1 training seed"
    assert lines[2] == "linear_bandit" and lines[3].strip().startswith("4 jobs (")


def test_all_that_enters_suits_its_world():
    for of_world in entries.runs("cpu").values():
        for run in of_world.values():
            validation.validate(run.config)


def test_a_bandit_is_looked_at_step_by_step(tmp_path, never):
    runs = arena.chosen("smoke", "adversarial_bandit", "AD; Thompson; Thompson, informed; source")
    arena.compete(runs, "smoke", tmp_path, never, 1)
    made = json.loads((tmp_path / "report" / "summary.json").read_text())
    found, world = made["methods"]["AD"]["adversarial_bandit"], made["worlds"]["adversarial_bandit"]
    assert world["unit"] == "step" and len(found["curve"]) == world["episode_steps"]
    assert set(found["shifted"]) == {"even", "uniform"}
    results = Results(tmp_path, runs["adversarial_bandit"]["AD"], 1)
    of_steps, of_trial = results.normalized_by_step(), results.normalized()
    np.testing.assert_allclose(of_steps.mean((2, 3)), of_trial.mean((2, 3)), atol=1e-5)
    regret = world["optimum"] - results.of_group().mean()
    assert found["regret"]["mean"] == pytest.approx(regret, abs=1e-4)
    last = statistics.last_tenth(of_steps).mean((2, 3))
    part = [np.mean(last > level) for level in made["thresholds"]]
    np.testing.assert_allclose(found["profile"], part, atol=1e-4)
    assert list(world["from_scratch"]) == ["source", "Thompson", "Thompson, informed"]
    for of in world["from_scratch"].values():
        low, high = of["ci95"]
        assert low < of["regret"] < high and of["regret"] > 0


def test_entries_that_never_meet_are_reported(tmp_path, never):
    """Then nothing is drawn, but the numbers are written."""
    runs = {
        "dark_room": {"DPT": entries.runs("smoke")["dark_room"]["DPT"]},
        "random_mdp": {"AD": entries.runs("smoke")["random_mdp"]["AD"]},
    }
    arena.compete(runs, "smoke", tmp_path, never, 1)
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["summary.json"]


def test_rewards_of_an_older_version_are_not_taken_for_those_of_one_model():
    found = Results.__new__(Results)
    found.returns = np.zeros((2, 3, 4, 1))
    found._mean_rewards = [np.zeros((3, 16))]  # of both models
    with pytest.raises(UserError, match="evaluations are from an older version"):
        found.normalized_by_step()


def test_an_optimum_that_is_not_known_is_said_to_be_a_bound():
    curve = {"curve": [0.1, 0.2], "curve_ci95": [[0.0, 0.2], [0.1, 0.3]], "seeds": 1}
    made = {
        "preset": "cpu",
        "methods": {name: {"xland": curve} for name in ("AD", "ED")},
        "worlds": {"xland": {"environment": "XLand", "unit": "episode", "optimum_is_known": False}},
    }
    axes = results.draw_curves(made, ["AD", "ED"]).axes[0]
    assert {text.get_text() for text in axes.texts} == {"bound", "random"}


@pytest.mark.parametrize("names", entries.PICTURES.values())
def test_no_two_entries_of_a_picture_have_one_line(names):
    assert len({style.number(name, i) for i, name in enumerate(names)}) == len(names)
