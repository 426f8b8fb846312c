import contextlib
import json
import shutil

import jax
import numpy as np
import pytest

from ad_jax.checkpoint import Checkpoints
from ad_jax.errors import UserError
from ad_jax.training import distill
from ad_jax.training.optimizer import make_optimizer
from experiments import build, evaluate, train
from experiments.workdir import Workdir


@pytest.fixture
def workdir_for(smoke_run, tmp_path):
    """Makes a workdir that has the histories of the smoke run."""

    def make(config, name="run"):
        workdir = Workdir(tmp_path / name, config)
        shutil.copytree(smoke_run[0] / "histories", workdir.histories)
        return workdir

    return make


def final_params(config, workdir):
    model = build.model(config, build.world(config).env)
    optimizer = make_optimizer(build.optimizer(config), config.train.steps)
    like = distill.init_state(jax.random.key(0), model, optimizer)
    with contextlib.closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        return checkpoints.restore(checkpoints.latest_step(), like)[0].params


def test_disk_and_device_windows_and_any_number_of_devices_train_alike(workdir_for, config, never):
    """One device and windows in memory, against four devices and windows from disk."""
    config.train.keep_every = 2
    params = []
    for devices, windows in ((1, "device"), (4, "disk")):
        config.mesh.data, config.train.windows = devices, windows
        workdir = workdir_for(config, windows)
        train.run(config, workdir, never)
        params.append(final_params(config, workdir))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=5e-3), *params)
    losses = [
        [json.loads(line)["loss"] for line in open(workdir_path)]
        for workdir_path in (
            workdir.path.parent / "device/metrics.jsonl", workdir.path / "metrics.jsonl",
        )
    ]  # fmt: skip
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_nan_stops_and_names_the_step_and_the_last_good_checkpoint(
    workdir_for, config, never, monkeypatch
):
    original = distill.distillation_loss

    def poisoned(model, params, batch, key, label_smoothing):
        loss, metrics = original(model, params, batch, key, label_smoothing)
        # The key depends on the step: poison the one of step 27.
        bad = jax.random.key_data(jax.random.fold_in(jax.random.key(0), 26))
        factor = jax.numpy.where((jax.random.key_data(key) == bad).all(), jax.numpy.nan, 1.0)
        return loss * factor, {**metrics, "loss": loss * factor}

    monkeypatch.setattr(distill, "distillation_loss", poisoned)
    workdir = workdir_for(config)
    with pytest.raises(UserError, match=r"nan at training step 27; .*checkpoints/20"):
        train.run(config, workdir, never)
    assert Checkpoints(workdir.checkpoints).latest_step() == 20


def test_a_checkpoint_of_another_architecture_is_refused(workdir_for, config, never):
    config.train.steps = 20
    workdir = workdir_for(config)
    train.run(config, workdir, never)
    config.train.steps = 30
    config.model.width = 32
    with pytest.raises(UserError, match="another architecture"):
        train.run(config, workdir, never)
    with pytest.raises(UserError, match="another architecture"):
        evaluate.run(config, workdir, never)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("model.context", 1000, "longer than the histories"),
        ("train.keep_every", 40, "longer than the histories"),
        ("mesh.data", 3, "train.batch_size=16 is not a multiple of the 3 devices"),
        ("mesh.data", 9, "there are 4 devices"),
        ("train.windows", "tape", "choose 'device' or 'disk'"),
        ("optimizer.warmup_steps", 40, "must be fewer"),
    ],
)
def test_what_does_not_fit_is_refused(workdir_for, config, never, key, value, message):
    config.update_from_flattened_dict({key: value})
    workdir = workdir_for(config)
    with pytest.raises(UserError, match=message):
        train.run(config, workdir, never)


def test_damaged_histories_are_refused(workdir_for, config, never):
    workdir = workdir_for(config)
    shard = next(p for p in workdir.histories.glob("*array_record*") if p.suffix != ".json")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UserError, match=f"{shard.name} is damaged"):
        train.run(config, workdir, never)
