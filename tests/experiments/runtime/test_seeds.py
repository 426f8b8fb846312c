"""Training several seeds in one program gives the same models as training each alone."""

import contextlib
import json
import shutil

import jax
import numpy as np
import pytest

from ad_jax import build
from ad_jax.checkpoint import Checkpoints
from ad_jax.distributed import sharding
from ad_jax.errors import UserError
from ad_jax.methods import ad
from experiments import validation
from experiments.runtime.interruption import Interrupted
from experiments.runtime.workdir import Workdir
from experiments.stages import evaluate, report, train

STEPS = 12


@pytest.fixture
def trained_on(smoke_run, tmp_path, config, never, monkeypatch):
    """``make(devices, …)`` trains; returns (parameters of each seed, workdir)."""
    everything = jax.devices()
    config.train.update(steps=STEPS, log_every=4, checkpoint_every=STEPS)
    config.optimizer.warmup_steps = 2

    def make(devices, interruption=never, **settings):
        monkeypatch.setattr(jax, "devices", lambda: everything[:devices])
        config.update_from_flattened_dict(settings)
        workdir = Workdir(tmp_path / f"{devices}-{config.seed}-{config.train.seeds}", config)
        if not workdir.histories.exists():
            shutil.copytree(smoke_run[0] / "histories", workdir.histories)
        train.run(config, workdir, interruption)
        model = build.model(config, build.world(config).env)
        mesh = sharding.make_mesh()
        return evaluate.trained(config, workdir.checkpoints, model, mesh)[0], workdir

    return make


def lines(workdir):
    return [json.loads(line) for line in (workdir.path / "metrics.jsonl").read_text().splitlines()]


def assert_close(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), a, b)


@pytest.mark.parametrize(
    "devices, method",
    [
        ((1, 2, 4), {}),
        ((2,), {"train.windows": "disk", "train.accumulate": 2}),
        ((2,), {"model.core": "lstm"}),
    ],
    ids=["device", "disk", "lstm"],
)
def test_together_as_alone_on_any_devices(trained_on, devices, method):
    """Oracle: each of the three seeds trained alone. One device trains all three, each of two
    trains two, and each of four trains one; a spare slot repeats the last seed, and is not used."""
    together = [trained_on(n, **method, **{"seed": 5, "train.seeds": 3}) for n in devices]
    for i in range(3):
        (alone,), workdir = trained_on(1, **method, **{"seed": 5 + i, "train.seeds": 1})
        want = [(m["step"], m["loss"], m["learning_rate"]) for m in lines(workdir)]
        for models, all_of_them in together:
            assert_close(models[i], alone)
            got = [m for m in lines(all_of_them) if m["seed"] == 5 + i]
            got = [(m["step"], m["loss"], m["learning_rate"]) for m in got]
            np.testing.assert_allclose(got, want, rtol=1e-3)
    kernels = [jax.tree.leaves(model)[-1] for model in together[0][0]]
    assert np.abs(np.subtract(*kernels[:2])).max() > 0.01  # different seeds give different models
    assert {m["seed"] for m in lines(together[0][1])} == {5, 6, 7}
    boards = (together[0][1].path / "tensorboard").iterdir()
    assert sorted(board.name for board in boards) == ["seed_5", "seed_6", "seed_7"]


class After:
    """An interruption that comes after ``number`` queries."""

    def __init__(self, number):
        self._left = number

    @property
    def requested(self):
        self._left -= 1
        return self._left < 0


def test_what_was_stopped_goes_on_also_on_other_devices(trained_on, tmp_path):
    settings = {"train.seeds": 3}
    (want, _) = trained_on(4, **settings)
    with pytest.raises(Interrupted):
        trained_on(2, After(5), **settings)
    with contextlib.closing(Checkpoints(tmp_path / "2-0-3" / "checkpoints")) as checkpoints:
        assert checkpoints.latest_step() == 6
    shutil.copytree(tmp_path / "2-0-3", tmp_path / "1-0-3")
    for devices in (2, 1):
        got, workdir = trained_on(devices, **settings)
        for one, other in zip(got, want, strict=True):
            assert_close(one, other)
        assert len(lines(workdir)) == 3 * STEPS / 4


def test_each_is_evaluated_as_if_alone(trained_on, config, never):
    def finish(workdir):
        evaluate.run(config, workdir, never)
        report.run(config, workdir, never)
        summary = json.loads((workdir.report / report.SUMMARY).read_text())
        return evaluate.load_results(workdir.evaluation), summary

    _, workdir = trained_on(2, **{"train.seeds": 2})
    together, summary = finish(workdir)
    assert together["returns"].shape == (2, 8, 2, 4)
    assert summary["seeds"] == [0, 1] and len(summary["heldout"]["final_by_seed"]) == 2
    want = together["returns"][:, together["group"] == "heldout"].mean((0, 1, 2))
    np.testing.assert_allclose(summary["heldout"]["return"], want)
    for seed in (0, 1):
        _, workdir = trained_on(2, **{"seed": seed, "train.seeds": 1})
        alone, _ = finish(workdir)
        assert (alone["returns"][0] == together["returns"][seed]).mean() > 0.8  # rounding
    assert (together["returns"][0] != together["returns"][1]).any()


def test_rl2_too(trained_on, config):
    config.method = "RL2"
    config.rl2.update(num_trials=8, episodes=2, num_minibatches=2)
    models, workdir = trained_on(2, **{"model.core": "lstm", "train.steps": 4, "train.seeds": 2})
    (alone,), _ = trained_on(1, **{"seed": 1, "train.seeds": 1})
    assert_close(models[1], alone)
    assert [(m["step"], m["seed"]) for m in lines(workdir)] == [(4, 0), (4, 1)]


def test_which_seed_was_spoiled(trained_on, config, monkeypatch):
    original = ad.distillation_loss

    def poisoned(model, params, batch, key, label_smoothing):
        loss, metrics = original(model, params, batch, key, label_smoothing)
        bad = jax.random.key_data(jax.random.fold_in(build.key(config, "train", 2), 6))
        factor = jax.numpy.where((jax.random.key_data(key) == bad).all(), jax.numpy.nan, 1.0)
        return loss * factor, {**metrics, "loss": loss * factor}

    monkeypatch.setattr(ad, "distillation_loss", poisoned)
    with pytest.raises(UserError, match=r"nan at training step 7 of seed 2; .*checkpoint is none"):
        trained_on(2, **{"train.seeds": 3})


def test_a_number_of_seeds_there_can_not_be(config):
    config.train.seeds = 0
    with pytest.raises(UserError, match=r"train\.seeds=0: give a number from 1"):
        validation.validate(config)
