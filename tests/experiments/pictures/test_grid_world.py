import numpy as np
from PIL import Image

from ad_jax.envs import registry
from experiments.pictures import grid_world, style
from experiments.pictures.rollouts import shown_episodes


def rollouts(env_name, returns):
    """Results of evaluation with a fixed path: right, right, …"""
    _, tasks = registry.make(env_name)
    n, steps = len(returns), returns.shape[-1] * 4
    observation = np.zeros((n, steps, 2), int)
    observation[:, :, 0] = np.arange(steps) % 4  # no two frames alike
    return tasks, {
        "task": np.arange(n),
        "group": np.where(np.arange(n) < n // 2, "heldout", "train"),
        "returns": returns,
        "observation": observation,
        "reward": np.zeros((n, steps)),
        "is_last": np.tile(np.arange(steps) % 4 == 3, (n, 1)),
    }


def test_goals_shows_the_final_return_at_the_cell_of_the_goal(tmp_path):
    final = np.linspace(0, 1, 81)
    returns = np.tile(final[:, None, None], (1, 2, 10))
    tasks, results = rollouts("DarkRoom", returns)
    params = tasks.params(results["task"])
    summary = {"environment": "DarkRoom", "unit": "return / optimal return", "preset": "cpu",
               "rollouts_per_task": 2, "seeds": [0]}  # fmt: skip
    figure = grid_world.goals(results, params, np.ones(81), 9, summary)
    style.save(figure, tmp_path / "goals.png")
    image = np.asarray(Image.open(tmp_path / "goals.png").convert("RGB")).astype(int)
    height, width = image.shape[:2]
    top = image[: height // 3, : width // 2].reshape(-1, 3)
    bottom = image[-height // 3 :, : width // 2].reshape(-1, 3)
    purple = lambda pixels: (np.abs(pixels - [68, 1, 84]).sum(-1) < 30).sum()
    yellow = lambda pixels: (
        (pixels[:, 0] > 150) & (pixels[:, 1] > 200) & (pixels[:, 2] < 80)
    ).sum()
    assert purple(top) > 100 and purple(bottom) == 0  # viridis: low ids are low returns
    assert yellow(top) == 0
    assert grid_world._places(params)["goal"][10].tolist() == [1, 1]


def test_key_to_door_has_a_map_for_each_place():
    tasks, results = rollouts("DarkKeyToDoor", np.ones((6, 2, 3)))
    places = grid_world._places(tasks.params(results["task"]))
    assert list(places) == ["key", "door"]
    assert places["door"][4].tolist() == [4, 0]


def test_the_gif_shows_some_episodes_and_ends_with_the_last(tmp_path):
    tasks, results = rollouts("DarkRoom", np.ones((4, 2, 50)))
    params = tasks.params(results["task"])
    grid_world.rollout(results, params, np.ones(4), 9, tmp_path / "rollout.gif")
    with Image.open(tmp_path / "rollout.gif") as gif:
        assert gif.n_frames == len(shown_episodes(50)) * 4
    assert shown_episodes(50)[[0, 1, -1]].tolist() == [0, 1, 49] and len(shown_episodes(50)) <= 12
    assert shown_episodes(7).tolist() == list(range(7))
