import jax
import numpy as np
import pytest

from ad_jax.envs import registry
from ad_jax.errors import UserError
from experiments.configs.cart_pole import tasks as cart_pole_tasks
from experiments.page import scenes

WORLDS = ("DarkRoom", "DarkRoomHard", "DarkKeyToDoor", "AdversarialBandit", "Watermaze")


@pytest.mark.parametrize("name", WORLDS)
def test_the_places_of_a_task_are_its_params(name):
    """Oracle: the params themselves, converted to places and back."""
    env, tasks = registry.make(name)
    params = jax.tree.map(lambda x: x[0], tasks.params(np.array([7], np.int32)))
    places = scenes.task(env, params)
    assert set(places) == set(scenes.world(env)["places"])
    back = scenes.params_of(env, places)
    jax.tree.map(np.testing.assert_array_equal, back, params)
    assert [x.dtype for x in jax.tree.leaves(back)] == [x.dtype for x in jax.tree.leaves(params)]


@pytest.mark.parametrize(
    "name, places, message",
    [
        ("DarkRoom", {"goal": [9, 0]}, r"goal is \[9, 0\]: give a cell"),
        ("DarkRoom", {"goal": [0.5, 0]}, "give a cell"),
        ("DarkRoom", {"goal": [[1], [1, 2]]}, "goal is not an array"),
        ("DarkRoom", {"key": [0, 0]}, r"has the places \['goal'\]"),
        ("DarkRoom", "goal", r"has the places"),
        ("DarkKeyToDoor", {"key": [0, 0]}, r"\['key', 'door'\]"),
        ("AdversarialBandit", {"probability": [0.5] * 9}, "give 10 numbers from 0 to 1"),
        ("AdversarialBandit", {"probability": [2.0] * 10}, "give 10 numbers from 0 to 1"),
        ("AdversarialBandit", {"probability": [float("nan")] * 10}, "give 10 numbers"),
        ("Watermaze", {"platform": [600, 0]}, "within 580 of the centre"),
        ("Watermaze", {"platform": [float("nan"), 0]}, "within 580 of the centre"),
    ],
)
def test_what_is_no_task_is_refused_in_one_line(name, places, message):
    with pytest.raises(UserError, match=message):
        scenes.params_of(registry.make(name)[0], places)


def test_an_environment_that_nothing_is_known_of_is_drawn_as_numbers():
    env, _ = registry.make("CartPole-v1", cart_pole_tasks)
    assert scenes.world(env)["kind"] == "plain"
    assert scenes.task(env, env.default_params) == {}
    assert scenes.pictures(env) is None


def test_pictures_are_drawn_where_there_are_some():
    env, _ = registry.make("Watermaze")
    pose, _ = env.reset(jax.random.key(0), env.default_params)
    assert scenes.pictures(env)(np.asarray(pose)[None]).shape == (1, 72, 96, 3)
    pixels, _ = registry.make("PixelWatermaze")
    frame = np.zeros((1, 72, 96, 3), np.uint8)
    assert scenes.pictures(pixels)(frame) is frame
