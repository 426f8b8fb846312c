"""What the arena's page shows of a small, made-up summary."""

import pytest

from docs.blocks import arena


def entry(mean, **more):
    run = {
        "collect": 9.0, "train": [60.0, 62.0], "evaluate": [4.0], "training_tasks": 57,
        "source": "ppo", "env_steps": 7_300_000,
    }  # fmt: skip
    return {
        "mean": mean, "mean_ci95": [mean - 0.1, mean + 0.1], "to_80": None, "shifted": {},
        "return": {"mean": 12.3},
        "parameters": 150_000, "run": run | {"episodes": 200}, **more,
    }  # fmt: skip


@pytest.fixture
def results():
    bounds = {"first": "AD", "random": 0.24, "optimum": 16.6}
    room = {"environment": "DarkRoom", "unit": "episode", **bounds}
    bandit = {"environment": "AdversarialBandit", "unit": "step", **bounds}
    alone = {"name": "ppo", "ci95": [0.9, 8.0]}
    regret = {"mean": 5.0, "ci95": [4.0, 6.0]}
    even = {"even": {"mean": 0.5, "ci95": [0.4, 0.6]}}
    better = {"improvement": 0.75, "improvement_ci95": [0.6, 0.9], "to_80": 12}
    summary = {
        "worlds": {
            "adversarial_bandit": bandit | {"from_scratch": {"Thompson": alone | {"regret": 7.0}}},
            "dark_room": room | {"from_scratch": {"source": alone | {"mean": 1.0}}},
        },
        "methods": {
            "AD": {
                "adversarial_bandit": entry(0.9, regret=regret, shifted=even),
                "dark_room": entry(0.5),
            },
            "DPT": {"dark_room": entry(0.8, **better)},
        },
    }
    theirs = [{"who": "AD, the paper", "how": "2000 histories", "score": 14.1, "episodes": 1000}]
    return {arena.ARENA: summary, arena.PUBLISHED: {"Dark Room": theirs}}


def test_a_row_for_each_entry_and_a_column_for_each_world(results):
    lines = arena.arena_scores(results).splitlines()
    assert lines[0] == "| entry | AdversarialBandit | DarkRoom |"
    assert lines[2] == "| `AD` | 0.90 (0.80 – 1.00) | 0.50 (0.40 – 0.60) |"
    assert lines[3] == "| `DPT` | – | 0.80 (0.70 – 0.90) |"
    assert lines[4] == "| `source`, from scratch | – | ppo: 1.00 (0.90 – 8.00) |"
    assert lines[-1] == "| return that counts as 1: optimal | 16.6 | 16.6 |"


def test_the_first_entry_is_not_better_than_itself(results):
    lines = arena.arena_improvement(results).splitlines()
    assert lines[2:] == ["| `DPT` | – | 0.75 (0.60 – 0.90) |"]


def test_how_soon(results):
    assert arena.arena_sooner(results).splitlines()[2:] == [
        "| `AD` | never | never |", "| `DPT` | – | 12 |"
    ]  # fmt: skip


def test_regret_stands_beside_learners_from_scratch(results):
    lines = arena.arena_shifted(results).splitlines()
    assert lines[2] == "| `AD` | 5.00 (4.00 – 6.00) | 0.50 (0.40 – 0.60) |"
    assert lines[-1] == "| `Thompson`, from scratch | ppo: 7.00 (0.90 – 8.00) | – |"


def test_a_learner_of_two_bandits_has_one_row(results):
    worlds = results[arena.ARENA]["worlds"]
    worlds["linear_bandit"] = {**worlds["adversarial_bandit"], "environment": "LinearBandit"}
    last = arena.arena_shifted(results).splitlines()[-1]
    assert last.count("7.00") == 2 and last.startswith("| `Thompson`, from scratch |")


def test_returns_stand_beside_published_ones(results):
    lines = arena.arena_published(results).splitlines()
    assert lines[2].startswith("| Dark Room | AD, the paper | 2000 histories | 14.1 | 1000 |")
    assert lines[3] == "| Dark Room | ours, `AD` | 57 tasks, ppo | **12.3** | 200 |"


def test_costs_are_means_over_seeds(results):
    assert "150 k, 7.3 M, 9 + 61 + 4 s" in arena.arena_costs(results)


def test_memory_is_told_by_core_and_context():
    setting = {"core": "gru", "context": 10_000}
    rows = [
        {"setting": setting | {"part": part}, "per_second": 5e4, "memory_bytes": 2**20}
        for part in ("training", "acting")
    ]
    line = arena.arena_cores({arena.CORES: {"rows": rows}}).splitlines()[-1]
    assert line == "| `gru` | 10,000 | 50 k | 1 MiB | 50 k | 1,024.0 KiB |"


def test_a_result_that_is_not_there_is_said_to_be_missing():
    assert arena.arena_scores({}) == arena.arena_cores({}) == "Not run yet."
