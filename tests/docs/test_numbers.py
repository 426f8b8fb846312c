"""The numbers on the pages are those of the committed results."""

import copy
import math
import re

import pytest

from ad_jax.errors import UserError
from docs import fill
from docs.blocks import returns, speed, words
from experiments.figures import fig04_main

RESULTS = fill.load()
PAGES = {path.relative_to(fill.ROOT).as_posix(): path.read_text() for path in fill.pages()}
QUICKSTART = "docs/results/dark_room_quickstart.json"


def stale(results, pages=PAGES) -> set[str]:
    """Names of the pages that disagree with the results."""
    return {name for name, text in pages.items() if fill.fill(text, results) != text}


def test_pages_agree_with_the_results():
    assert not stale(RESULTS), "numbers on these pages are old: run python -m docs.fill"


def test_every_block_has_a_place_and_an_end():
    text = "\n".join(PAGES.values())
    named = re.findall(r"^ *<!--numbers:(\w+)-->$", text, re.MULTILINE)
    assert sorted(named) == sorted(fill.BLOCKS)
    assert len(re.findall(r"^ *<!--end-->$", text, re.MULTILINE)) == len(named)


@pytest.mark.parametrize("path, change, pages", [
    ("ad_jax/weights/dark_room.json",
     lambda made: made["summary"]["heldout"].update({"return": [1.0] * 50, "final": 0.5}),
     {"docs/results.md", "docs/learners.md"}),
    ("docs/figures/fig16.json",
     lambda made: made["panels"][0]["curves"][0]["final"].update(mean=0.5), {"README.md"}),
    ("benchmarks/results/cpu_2_cores.json",
     lambda made: made["rows"][0].update(per_second=1.0),
     {"docs/performance.md", "docs/scaling.md"}),
    (QUICKSTART, lambda made: made["seconds"].update(train=1.0), {"docs/results.md"}),
])  # fmt: skip
def test_a_result_that_changes_changes_all_pages_that_show_it(path, change, pages):
    results = copy.deepcopy(RESULTS)
    change(results[path])
    assert stale(results) == pages


def test_a_number_changed_by_hand_is_found_and_written_anew():
    page = PAGES["README.md"]
    changed = re.sub(r"\*\*\d\.\d+", "**9.99", page, count=1)
    assert stale(RESULTS, {"README.md": changed}) == {"README.md"} and changed != page
    assert fill.fill(changed, RESULTS) == page


def test_the_text_around_a_block_stays_and_its_indent_too():
    text = "- a\n\n  <!--numbers:readme_environments-->\n  old\n  <!--end-->\n  b <!--end-->\n"
    filled = fill.fill(text, RESULTS)
    assert filled.startswith("- a\n\n  <!--numbers:readme_environments-->\n  | environment |")
    assert filled.endswith("  <!--end-->\n  b <!--end-->\n") and "old" not in filled
    assert fill.fill(filled, RESULTS) == filled


def test_an_unknown_block_is_one_clear_line():
    with pytest.raises(UserError, match=r"<!--numbers:nothing-->: unknown; choose from \w+"):
        fill.fill("<!--numbers:nothing-->\n<!--end-->", RESULTS)


def test_the_readme_has_its_results_in_blocks_only():
    """So that no other text can contradict them. Version numbers are not results."""
    text = fill.BLOCK.sub("", PAGES["README.md"])
    text = re.sub(r"```.*?```|\]\([^)]*\)|arXiv:\S+", "", text, flags=re.DOTALL)
    assert set(re.findall(r"\d+\.\d+", text)) == {"3.11", "2.0"}


def test_runs_of_gymnax_are_found_by_the_name_of_their_file():
    """Also one whose returns are negative, and so have no ratio to the optimum."""
    made = copy.deepcopy(RESULTS["docs/results/cart_pole.json"])
    made["environment"] = "MountainCar-v0"
    made["heldout"].update({"return": [-400.0, -100.0], "final": None, "final_ci95": [None, None]})
    results = {**RESULTS, "docs/results/gymnax_mountain_car.json": made}
    table = returns.results_gymnax(results).split("\n")
    assert len(table) == len(returns.results_gymnax(RESULTS).split("\n")) + 1
    row = table[-1].split(" | ")
    assert row[0] == "| [MountainCar-v0](results/gymnax_mountain_car.json), `gymnax:cpu`"
    assert row[2] == "-400 → **-100**" and row[5] == "–"


def timed(what, beside=None, ratio=None, stage="train", **facts):
    """A row of a benchmark."""
    row = {"stage": stage, "what": what, "unit": "steps", "per_second": 1e3, "beside": beside}
    if ratio:
        row["ours_is_times"] = {"median": ratio, "low": ratio, "high": ratio, "rounds": 5}
    return row | facts


PEER = dict(peer="P", fair=True, equal="all", differs="none", setting={"parts": 2}, version="P 1")
SPEED = {
    speed.CPU: {"rows": [
        timed("ad_jax, short"),
        timed("ad_jax, otherwise, short", "ad_jax, short", 0.1),
        timed("P, short", "ad_jax, short", 3.0, **PEER),
        timed("P, compiled, short", "ad_jax, short", 2.0, **PEER),
        timed("P, as published, short", "ad_jax, short", 9.0, **PEER | {"fair": False}),
        timed("ad_jax, long"),
        timed("P, long", "ad_jax, long", 0.5, **PEER),
        timed("R, long", "ad_jax, long", 4.0, **PEER | {"peer": "R"}),
        {"stage": "train", "what": "Q", "left_out": "it is no package"},
    ]},
}  # fmt: skip


def test_the_best_of_each_peer_and_the_smallest_ratio_first():
    rows = speed.speed_fair(SPEED).splitlines()[2:]
    assert [row.split(" | ")[2] for row in rows] == ["P, long", "P, compiled, short", "R, long"]
    assert rows[0].endswith("0.5 (0.5 – 0.5) |")
    said = speed.readme_speed(SPEED)
    assert "training is 0.5 to 2.0 times as fast as P,\nand training is 4.0 times" in said


def test_all_rows_stand_below_the_one_that_they_are_compared_with():
    rows = [row.strip("| ").split(" | ") for row in speed.speed_cpu(SPEED).splitlines()[2:]]
    assert [row[0] for row in rows if row[0].startswith("train")] == ["train: short", "train: long"]
    assert len(rows) == 6 and rows[-2][2:] == ["P, long", "1.0 k", "0.5 (0.5 – 0.5)"]


def test_how_long_it_took_or_what_else_has_to_be_known():
    took = {"rounds": 7, "jax": "1.0", "seconds": {"collect": 60.0, "train": 120.4}}
    said = speed.bench_time({speed.CPU: took})
    assert "It took 3 minutes" in said and said.endswith("collect 60 s, train 120 s.")
    assert speed.bench_time({speed.CPU: {"note": "a dry run"}}) == "a dry run"


def test_conditions_of_every_peer_and_who_is_left_out():
    rows = speed.speed_conditions(SPEED).splitlines()[2:]
    assert rows[0] == "| train: P, short | all | none | parts 2 | P 1 | 5 |"
    assert rows[1].split(" | ")[1] == "as above"
    assert rows[-1].startswith("| train: Q | left out | it is no package")


def test_the_end_of_a_curve_is_what_the_summary_calls_final():
    """If all tasks have the same optimum, the ratio of the means is the mean of the ratios."""
    for name in ("dark_room_hard", "dark_key_to_door"):
        summary = RESULTS[f"ad_jax/weights/{name}.json"]["summary"]
        end = words.end(summary["heldout"]["return"]) / summary["optimal_return"]
        assert math.isclose(end, summary["heldout"]["final"], rel_tol=1e-6)


def test_the_papers_returns_are_at_its_own_episodes():
    """Read off at 200 and 1000 episodes of 20 steps in Dark Room Hard."""
    assert dict(fig04_main.PAPER["dark_room_hard"][0])[4e3] == 0.40
    assert returns.paper("Dark Room Hard", 200) == "0.40 after 200, 0.68 after 1000"
    assert returns.paper("Dark Room Hard", 30) == "0.68 after 1000"


@pytest.mark.parametrize("value, text", [
    (None, "–"), (0.0474, "0.05"), (0.996, "1.00"), (15.30, "15.3"), (-99.6, "-99.6"),
    (499.7, "500"),
])  # fmt: skip
def test_numbers(value, text):
    assert words.number(value) == text


@pytest.mark.parametrize("value, text", [
    (3785838.7, "3.8 M"), (60681.3, "61 k"), (136511.1, "137 k"), (280.8, "281"),
])  # fmt: skip
def test_rates(value, text):
    assert words.rate(value) == text
