import json
import shutil
import zipfile

import jax
import numpy as np
import pytest

from ad_jax import build
from ad_jax.distributed import sharding
from ad_jax.errors import UserError
from ad_jax.methods.train_state import init_params
from experiments.runtime.workdir import Workdir
from experiments.stages import evaluate, report, train
from tests.experiments.stages.test_train import events


@pytest.fixture
def trained(smoke_run, tmp_path, config):
    workdir = Workdir(tmp_path / "run", config)
    shutil.copytree(smoke_run[0] / "checkpoints", workdir.checkpoints)
    return workdir


def test_results_do_not_depend_on_the_devices(trained, config, never, smoke_run):
    """Oracle: the smoke run, on two devices. Here four share 7 tasks, padded to 8."""
    config.evaluation.train_tasks = 5
    evaluate.run(config, trained, never)
    got = np.load(trained.evaluation / evaluate.RESULTS)
    want = np.load(smoke_run[0] / "evaluation" / evaluate.RESULTS)
    world = build.world(config)
    np.testing.assert_array_equal(got["task"][:2], world.heldout)
    assert set(got["task"][2:]) <= set(world.train)
    assert got["returns"].shape == (1, 7, 2, 4) and (got["group"] == "heldout").sum() == 2
    rows = [want["task"].tolist().index(task) for task in got["task"]]
    # Rounding may change a rare draw, and with it the rest of that rollout.
    assert (got["returns"] == want["returns"][:, rows]).mean() > 0.9
    assert got["observation"].shape == (7, 32, 2)  # four episodes, as asked for


def test_while_settings_are_chosen_no_held_out_task_is_looked_at(smoke_run, trained, config, never):
    config.evaluation.tasks = "validation"
    shutil.copytree(smoke_run[0] / "histories", trained.histories)
    evaluate.run(config, trained, never)
    results = np.load(trained.evaluation / evaluate.RESULTS)
    world = build.world(config)
    np.testing.assert_array_equal(results["task"], np.concatenate([world.validation, world.train]))
    assert results["group"].tolist() == ["validation"] + ["train"] * len(world.train)
    assert not set(world.validation) & {*world.train, *world.heldout}
    report.run(config, trained, never)
    summary = json.loads((trained.report / "summary.json").read_text())
    assert summary["groups"] == ["validation", "train"] and summary["validation"]["tasks"] == 1
    assert len(summary["validation"]["final_by_seed"]) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation.tasks": "test"}, "evaluation.tasks='test': choose 'heldout' or 'validation'"),
        (
            {"evaluation.tasks": "validation", "tasks.num_validation": 0},
            "evaluation.tasks='validation', but tasks.num_validation is 0: raise it",
        ),
    ],
)
def test_a_group_that_is_not_there(config, changes, message):
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=message):
        evaluate.evaluation_tasks(build.world(config), config.evaluation.tasks, 3)


def test_only_so_many_training_tasks_are_evaluated(trained, config, never):
    config.evaluation.train_tasks = 3
    evaluate.run(config, trained, never)
    results = np.load(trained.evaluation / evaluate.RESULTS)
    train = build.world(config).train
    assert results["task"][results["group"] == "train"].tolist() == [train[0], train[2], train[-1]]


@pytest.mark.parametrize("damage", ["empty", "cut short", "flipped"])
def test_damaged_results_are_refused(smoke_run, tmp_path, config, damage):
    path = smoke_run[0] / "evaluation" / evaluate.RESULTS
    whole = bytearray(path.read_bytes())
    if damage == "flipped":  # inside an array; a byte between two of them may not matter
        with zipfile.ZipFile(path) as archive:
            largest = max(archive.infolist(), key=lambda entry: entry.compress_size)
        whole[largest.header_offset + 100 + largest.compress_size // 2] ^= 255
    kept = {"empty": 0, "cut short": len(whole) // 2, "flipped": len(whole)}[damage]
    workdir = Workdir(tmp_path, config)
    workdir.evaluation.mkdir()
    (workdir.evaluation / evaluate.RESULTS).write_bytes(whole[:kept])
    with pytest.raises(UserError, match=r"rollouts.npz is damaged .*run the stage 'evaluate'"):
        evaluate.load_results(workdir.evaluation)


def test_no_checkpoint(tmp_path, config, never):
    with pytest.raises(UserError, match="run the stage 'train' first"):
        evaluate.run(config, Workdir(tmp_path, config), never)


def test_training_that_is_not_finished_is_not_evaluated(trained, config, never):
    config.train.steps = 80
    with pytest.raises(UserError, match="training stopped at step 40 of 80"):
        evaluate.run(config, trained, never)
    assert not evaluate.done(config, trained)


def test_a_model_that_needs_fsdp_is_evaluated(smoke_run, config, tmp_path, never, monkeypatch):
    """Each device holds a quarter of the parameters, and nothing of the optimizer's state."""
    config.mesh.update(data=1, fsdp=4)
    workdir = Workdir(tmp_path / "run", config)
    shutil.copytree(smoke_run[0] / "histories", workdir.histories)
    train.run(config, workdir, never)
    model = build.model(config, build.world(config).env)
    params = jax.eval_shape(lambda key: init_params(key, model), jax.random.key(0))
    size = sum(4 * leaf.size for leaf in jax.tree.leaves(params))
    monkeypatch.setattr(sharding, "_device_memory", lambda: int(0.6 * size))
    mesh = sharding.make_mesh(**config.mesh)
    (restored,), _ = evaluate.trained(config, workdir.checkpoints, model, mesh)
    kernel = restored["params"]["blocks_0"]["qkv"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape)[0] == kernel.shape[0] // 4
    evaluate.run(config, workdir, never)
    results = np.load(workdir.evaluation / evaluate.RESULTS)
    assert np.isfinite(results["returns"]).all()
    monkeypatch.setattr(sharding, "_device_memory", lambda: size // 2)
    replicated = sharding.make_mesh()
    with pytest.raises(UserError, match=r"shard over them by mesh\.fsdp"):
        evaluate.trained(config, workdir.checkpoints, model, replicated)


def test_tensorboard_has_the_returns_by_episode(smoke_run):
    workdir, _ = smoke_run
    results = evaluate.load_results(workdir / "evaluation")
    curves = {}
    for path in (workdir / "tensorboard" / "in_context").iterdir():
        for event in events(path.read_bytes()):
            for value in event.summary.value:
                curves.setdefault(value.tag, {})[event.step] = value.simple_value
    assert set(curves) == {"in_context/heldout_return", "in_context/train_return"}
    for group in ("heldout", "train"):
        expected = results["returns"][:, results["group"] == group].mean((0, 1, 2))
        found = curves[f"in_context/{group}_return"]
        np.testing.assert_allclose([found[i] for i in range(1, 5)], expected, rtol=1e-6)
