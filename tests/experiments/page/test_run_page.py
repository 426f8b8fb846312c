import json
import re

import numpy as np
import pytest

from experiments.page.html import data_of, html
from experiments.page.run_page import _chosen, document
from experiments.stages import evaluate
from tests.experiments.page.browser import browser, needs_browser


def test_the_page_of_a_run_holds_its_summary_and_its_rollouts(smoke_run):
    workdir, output = smoke_run
    page = (workdir / "report" / "index.html").read_text(encoding="utf-8")
    assert "index.html" in output
    data = data_of(page)
    assert data["summary"] == json.loads((workdir / "report" / "summary.json").read_text())
    assert data["config"] == json.loads((workdir / "config.json").read_text())
    results = evaluate.load_results(workdir / "evaluation")
    assert len(data["tasks"]) == len(results["task"])
    for rollout in data["rollouts"]:
        i = list(results["task"]).index(rollout["task"])
        np.testing.assert_array_equal(rollout["observation"], results["observation"][i])
        np.testing.assert_array_equal(rollout["action"], results["action"][i])
        np.testing.assert_array_equal(rollout["reward"], results["reward"][i])
        np.testing.assert_array_equal(rollout["last"], results["is_last"][i])
    assert not re.search(r"""(src|href)=["']?(?!data:)\w""", page.split("<script>")[0])  # one file


def test_the_action_that_is_shown_leads_to_the_next_position(smoke_run):
    """Oracle: the environment's own moves, applied to the data in the page."""
    from ad_jax.envs.grid_world import MOVES

    data = data_of((smoke_run[0] / "report" / "index.html").read_text(encoding="utf-8"))
    for rollout in data["rollouts"]:
        at, last = np.array(rollout["observation"]), np.array(rollout["last"], bool)
        after = np.clip(at + MOVES[rollout["action"]], 0, 2)
        np.testing.assert_array_equal(after[:-1][~last[:-1]], at[1:][~last[:-1]])


def test_no_text_ends_the_data_early():
    text = html({"title": "</script><b>"})
    assert data_of(text) == {"title": "</script><b>"}


def test_the_rollouts_shown_span_the_returns_and_begin_with_the_median():
    heldout = np.arange(200) < 100
    final = np.linspace(0, 1, 200)
    chosen = _chosen(heldout, final)
    shown = final[chosen[:24]]
    assert shown.min() == 0 and shown.max() == final[99] and len(set(chosen)) == 36
    assert abs(shown[0] - np.median(final[:100])) < 0.05


def test_numbers_that_are_not_there_are_null(tmp_path):
    """Without an optimum and without actions, as for an older run."""
    from ad_jax.envs import registry

    env, tasks = registry.make("DarkRoom", size=3, max_steps_in_episode=4)
    ids = np.arange(2, dtype=np.int32)
    results = {
        "task": ids, "group": np.array(["heldout", "train"]), "returns": np.zeros((2, 1, 2)),
        "observation": np.zeros((2, 8, 2), np.int32), "reward": np.zeros((2, 8)),
        "is_last": np.tile([False, False, False, True], (2, 2)),
    }  # fmt: skip
    made = document(
        env, tasks.params(ids), results, *np.zeros((3, 2)),
        {"environment": "DarkRoom", "method": "AD", "reference": "one"}, {}, [],
    )  # fmt: skip
    assert made["tasks"][0]["final"] is None
    assert "action" not in made["rollouts"][0] and made["rollouts"][0]["best"] is None
    html(made)


@needs_browser
def test_a_browser_plays_a_rollout_and_shows_the_run(smoke_run):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    with browser() as driver:
        driver.get((smoke_run[0] / "report" / "index.html").as_uri())
        returns = lambda d: d.execute_script(
            "return [...document.querySelectorAll('#returns .return')].map(e => e.dataset.value)"
        )
        WebDriverWait(driver, 20).until(lambda d: len(returns(d)) == 4)
        data = data_of((smoke_run[0] / "report" / "index.html").read_text(encoding="utf-8"))
        first = data["rollouts"][0]
        expected = np.reshape(first["reward"], (4, -1)).sum(1)
        assert [float(v) for v in returns(driver)] == pytest.approx(expected)
        facts = driver.find_element(By.ID, "facts").text
        assert data["summary"]["commit"] in facts and "train" in facts
        assert len(driver.find_elements(By.CSS_SELECTOR, "canvas.map")) == 1
        assert "held-out tasks (2)" in driver.find_element(By.ID, "curves").text
