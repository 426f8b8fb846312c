import json
import threading
import urllib.request

import jax
import numpy as np
import pytest

from ad_jax.errors import UserError
from ad_jax.learner import load
from experiments import play
from experiments.configs import adversarial_bandit, cart_pole, dark_key_to_door, watermaze
from tests.ad_jax.test_learner import written
from tests.experiments.page.browser import browser, needs_browser


@pytest.fixture(scope="module")
def player():
    return play.Player(load("dark_room"))


@pytest.fixture(autouse=True)
def same_draws(monkeypatch):
    """Draws with which the goal is found early; in one rollout of twenty it is never found."""
    monkeypatch.setattr(play.secrets, "randbits", lambda bits: 2)


@pytest.fixture(scope="module")
def client(player):
    return play.make_app(player, "dark_room").test_client()


def test_steps_are_those_of_the_world(player):
    """Oracle: the rules of the room. Each position follows from the previous one; the goal pays."""
    from ad_jax.envs.grid_world import MOVES

    session = player.begin(places={"goal": [4, 5]})["session"]
    made = player.steps(session, 1)
    at, last = np.array(made["observation"]), np.array(made["last"], bool)
    assert last.tolist() == [False] * 19 + [True]
    after = np.clip(at + MOVES[made["action"]], 0, 8)
    np.testing.assert_array_equal(after[:-1], at[1:])
    np.testing.assert_array_equal(made["reward"], (after == [4, 5]).all(1))


def test_it_learns_where_the_goal_is(player):
    """It is next to the start: found early, and then reached in every episode."""
    session = player.begin(places={"goal": [5, 4]})["session"]
    returns = [sum(player.steps(session, 1)["reward"]) for _ in range(25)]
    assert np.mean(returns[-5:]) > 15 > np.mean(returns[:2])


def test_turning_back_undoes_what_was_not_shown(player):
    session = player.begin(places={"goal": [0, 0]})["session"]
    first = player.steps(session, 1)
    player.steps(session, 1)
    moved = player.move(session, {"goal": [8, 8]}, 20)
    assert moved["places"] == {"goal": [8, 8]}
    again = player.steps(session, 1)
    assert again["observation"][0] == [4, 4] and len(again["reward"]) == 20
    player.move(session, None, 0)
    player.move(session, {"goal": [0, 0]}, 0)
    assert player.steps(session, 1) == first  # the random keys are the same as the first time
    with pytest.raises(UserError, match="no longer known"):
        player.move(session, None, 7000)


def test_the_least_used_pages_are_forgotten(player, monkeypatch):
    monkeypatch.setattr(play, "_SESSIONS", 2)
    first, second = (player.begin(task=player.tasks()[0])["session"] for _ in range(2))
    player.steps(first, 1)
    player.begin(task=player.tasks()[1])
    player.steps(first, 0)
    with pytest.raises(UserError, match="start again"):
        player.steps(second, 1)


@pytest.mark.parametrize(
    "path, given, message",
    [
        ("begin", {"places": {"goal": [9, 9]}}, "give a cell"),
        ("begin", {"task": 100_000}, "not one of the tasks to choose from"),
        ("begin", {"task": []}, "not one of the tasks"),
        ("steps", {"session": "nonsense", "temperature": 1}, "start again"),
        ("steps", {"session": "nonsense", "temperature": "hot"}, "give a number"),
        ("steps", {"temperature": -1}, "give a number"),
        ("move", {"session": 3}, "start again"),
        ("steps", "no object", "give a number"),
    ],
)
def test_what_the_page_may_not_ask_is_answered_in_one_line(client, path, given, message):
    answer = client.post(f"/{path}", json=given)
    assert answer.status_code == 400
    assert message in answer.json["error"]


@pytest.mark.parametrize(
    "presets, kind", [(dark_key_to_door, "grid"), (adversarial_bandit, "bandit"),
                      (watermaze, "maze"), (cart_pole, "plain")],
)  # fmt: skip
def test_every_kind_of_world_is_played(tmp_path, presets, kind):
    config = presets.get_config("smoke")
    written(tmp_path, config)
    player = play.Player(load(tmp_path))
    document = player.document(kind)
    assert document["world"]["kind"] == kind
    begun = player.begin(task=document["choices"][0][0])
    made = player.steps(begun["session"], 0.5)
    assert len(made["action"]) == player.limit
    json.dumps([document, begun, made], allow_nan=False)
    assert ("frames" in made) == (kind == "maze")
    if kind == "maze":
        with urllib.request.urlopen(made["frames"][0]) as picture:
            assert picture.read(4) == b"\x89PNG"


def test_the_state_of_a_context_does_not_depend_on_the_page(player):
    """Oracle: a rollout of the learner's own agent, from the state of the session."""
    session = player.begin(places={"goal": [2, 2]})["session"]
    count, state = player._sessions[session][0]
    from ad_jax.rollout import make_rollouts

    _, advance = make_rollouts(player.learner.env, lambda _: player.learner.agent)
    _, history = jax.jit(advance, static_argnums=1)(state, 20)
    made = player.steps(session, 1)
    assert count == 0
    np.testing.assert_array_equal(made["action"], history.action[0, 0])


@needs_browser
def test_a_click_hides_the_goal_and_the_curve_rises(player):
    """The page in a real browser: at least 25 episodes, with a goal two steps from the start."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    server = play.serve(play.make_app(player, "dark_room"), "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with browser() as driver:
            driver.get(f"http://127.0.0.1:{server.effective_port}/")
            returns = lambda d: d.execute_script("return points.map(p => p.y)")
            WebDriverWait(driver, 30).until(lambda d: d.execute_script("return steps.length > 0"))
            room = driver.find_element(By.ID, "room")
            cell = room.size["width"] / 9
            # The goal is hidden at (5, 5); the middle of the canvas is the middle of (4, 4).
            ActionChains(driver).move_to_element_with_offset(room, cell, cell).click().perform()
            WebDriverWait(driver, 10).until(
                lambda d: d.execute_script("return token && places.goal.join() === '5,5'")
            )
            driver.execute_script("document.getElementById('speed').value = 3")
            WebDriverWait(driver, 60).until(lambda d: len(returns(d)) >= 25)
            earned = returns(driver)
            assert np.mean(earned[20:25]) > np.mean(earned[:3]) + 5
            dots = driver.execute_script(
                "return [...document.querySelectorAll('#returns .return')].length"
            )
            assert dots >= 25
            # A reset empties the context; with "keep", only the task changes.
            driver.find_element(By.ID, "reset").click()
            WebDriverWait(driver, 10).until(lambda d: len(returns(d)) < 25)
            driver.find_element(By.ID, "keep").click()
            ActionChains(driver).move_to_element_with_offset(room, -cell, 0).click().perform()
            WebDriverWait(driver, 10).until(
                lambda d: d.execute_script("return places.goal.join() === '3,4'")
            )
            assert driver.find_element(By.ID, "message").text == ""
            assert driver.execute_script("return token !== null && shown > 0")
    finally:
        server.close()
        thread.join()


def test_a_port_that_is_taken_is_one_clear_line():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match=r"--port=\d+ can't be used"):
            play.main(["--learner=dark_room", f"--port={taken.getsockname()[1]}"])
