import builtins
import contextlib
import json
import os
import pathlib
import shutil
import struct
import threading

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from ad_jax import build
from ad_jax.checkpoint import Checkpoints
from ad_jax.errors import UserError
from ad_jax.methods import ad
from ad_jax.methods.optimizer import make_optimizer
from ad_jax.methods.train_state import init_state
from data_pipelines.files import read_json, write_json
from data_pipelines.reader import Histories
from experiments.configs import cart_pole
from experiments.runtime.interruption import Interrupted
from experiments.runtime.workdir import Workdir
from experiments.stages import collect, evaluate, train


@pytest.fixture
def workdir_for(smoke_run, tmp_path):
    """Makes a workdir that has the histories of the smoke run."""

    def make(config, name="run"):
        workdir = Workdir(tmp_path / name, config)
        shutil.copytree(smoke_run[0] / "histories", workdir.histories)
        return workdir

    return make


def restored(config, workdir):
    """The state and the metadata of the newest checkpoint."""
    model = build.model(config, build.world(config).env)
    optimizer = make_optimizer(build.optimizer(config), config.train.steps)
    like = init_state(jax.random.key(0), model, optimizer)
    with contextlib.closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        return checkpoints.restore(checkpoints.latest_step(), like)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_scales_of_a_model_are_those_of_the_histories(tmp_path, never, optimizer):
    """And training leaves them alone."""
    config = cart_pole.get_config("smoke")
    config.model.normalize = True
    config.optimizer.update({"name": optimizer, "weight_decay": 0.1})
    config.train.update({"steps": 3, "log_every": 3, "checkpoint_every": 3})
    config.optimizer.warmup_steps = 1
    workdir = Workdir(tmp_path / "run", config)
    for stage in (collect, train):
        stage.run(config, workdir, never)
    told = Histories(workdir.histories).provenance["statistics"]
    embed = restored(config, workdir)[0].params["params"]["embed"]
    scale = embed["observation_scale"]
    np.testing.assert_allclose(scale["mean"], told["observation"]["mean"], rtol=1e-5)
    np.testing.assert_allclose(scale["deviation"], told["observation"]["deviation"], rtol=1e-5)
    assert embed["reward_scale"]["mean"] == 0

    older = Workdir(tmp_path / "older", config)
    shutil.copytree(workdir.histories, older.histories)
    provenance = older.histories / "provenance.json"
    document = read_json(provenance, "")
    del document["statistics"]
    write_json(provenance, document)
    with pytest.raises(UserError, match=r"model.normalize: .* without statistics: collect or"):
        train.run(config, older, never)


def test_disk_and_device_windows_and_any_mesh_train_alike(workdir_for, config, never, monkeypatch):
    """Oracle: one device. Four devices, two meshes, with windows in memory and from disk."""
    config.train.keep_every = 2
    params, losses = [], []
    everything = jax.devices()
    runs = ((1, "device", 1, 1, 1), (4, "device", 2, 2, 1), (4, "disk", 1, 1, 2))
    for devices, windows, fsdp, model, sequence in runs:
        monkeypatch.setattr(jax, "devices", lambda n=devices: everything[:n])
        config.mesh.update(fsdp=fsdp, model=model, sequence=sequence)
        config.train.windows = windows
        workdir = workdir_for(config, f"{windows}{fsdp}{devices}")
        train.run(config, workdir, never)
        params.append(restored(config, workdir)[0].params)
        log = (workdir.path / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in log])
    for other in (1, 2):
        close = lambda a, b: np.testing.assert_allclose(a, b, atol=5e-3)
        jax.tree.map(close, params[0], params[other])
        np.testing.assert_allclose(losses[0], losses[other], rtol=1e-3)


def test_nan_stops_and_names_the_step_and_the_last_good_checkpoint(
    workdir_for, config, never, monkeypatch
):
    original = ad.distillation_loss

    def poisoned(model, params, batch, key, label_smoothing):
        loss, metrics = original(model, params, batch, key, label_smoothing)
        # The key depends on the step: poison the one of step 27.
        bad = jax.random.key_data(jax.random.fold_in(build.key(config, "train"), 26))
        factor = jax.numpy.where((jax.random.key_data(key) == bad).all(), jax.numpy.nan, 1.0)
        return loss * factor, {**metrics, "loss": loss * factor}

    monkeypatch.setattr(ad, "distillation_loss", poisoned)
    workdir = workdir_for(config)
    with pytest.raises(UserError, match=r"nan at training step 27 of seed 0; .*checkpoints/20"):
        train.run(config, workdir, never)
    assert Checkpoints(workdir.checkpoints).latest_step() == 20


def test_a_bad_gradient_stops_before_it_is_saved(workdir_for, config, never, monkeypatch):
    """At step 20, where a checkpoint is due: the loss is finite, the new parameters are not."""
    original = ad.distillation_loss

    @jax.custom_jvp
    def spoil(loss, bad):
        return loss

    @spoil.defjvp
    def _(primals, tangents):
        loss, bad = primals
        return loss, tangents[0] * jax.numpy.where(bad, jax.numpy.inf, 1.0)

    def poisoned(model, params, batch, key, label_smoothing):
        loss, metrics = original(model, params, batch, key, label_smoothing)
        bad = jax.random.key_data(jax.random.fold_in(build.key(config, "train"), 19))
        return spoil(loss, (jax.random.key_data(key) == bad).all()), metrics

    monkeypatch.setattr(ad, "distillation_loss", poisoned)
    workdir = workdir_for(config)
    with pytest.raises(UserError, match=r"grad_norm is (inf|nan) at .*20 of seed 0; .*is none"):
        train.run(config, workdir, never)
    assert Checkpoints(workdir.checkpoints).latest_step() is None


class Scripted:
    """An interruption whose flag takes the next value of a list each time it is read."""

    def __init__(self, *flags):
        self._flags = iter(flags)

    @property
    def requested(self):
        return next(self._flags)


def test_a_signal_at_any_time_saves_before_it_stops(workdir_for, config):
    """Also one that comes between two reads of the flag."""
    workdir = workdir_for(config)
    with pytest.raises(Interrupted):
        train.run(config, workdir, Scripted(False, True, True, True))
    assert Checkpoints(workdir.checkpoints).latest_step() == 2


def metrics(workdir):
    return [json.loads(line) for line in (workdir.path / "metrics.jsonl").read_text().splitlines()]


def test_a_checkpoint_between_two_log_lines_costs_no_metrics(workdir_for, config, never):
    means = []
    for every in (20, 15):
        config.train.checkpoint_every = every
        workdir = workdir_for(config, str(every))
        train.run(config, workdir, never)
        means.append([(m["step"], m["loss"], m["grad_norm"]) for m in metrics(workdir)])
    assert means[0] == means[1] and len(means[0]) == 4


@pytest.mark.parametrize("seeds", [1, 2])
def test_evaluation_during_training_is_a_curve_and_changes_nothing(
    workdir_for, config, never, seeds
):
    config.train.seeds = seeds
    plain = workdir_for(config, "plain")
    train.run(config, plain, never)
    config.train.evaluate_every = 20
    watched = workdir_for(config, "watched")
    train.run(config, watched, never)
    names = {f"{g}_return_{n}" for g in ("validation", "train") for n in ("first", "last")}
    for before, row in zip(metrics(plain), metrics(watched), strict=True):
        assert names & row.keys() == (names if row["step"] in (20, 40) else set())
        assert all(0 <= row[name] <= 8 for name in names & row.keys())
        assert (before["loss"], before["grad_norm"]) == (row["loss"], row["grad_norm"])
    plain.close()
    Workdir(plain.path, config)  # it can be enabled later, in the same folder


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_row_that_an_interruption_falls_into_is_the_same(workdir_for, config, never, seeds):
    """Oracle: an uninterrupted run. The other one is stopped twice, between two rows."""
    config.train.seeds = seeds
    straight, broken = workdir_for(config, "straight"), workdir_for(config, "broken")
    train.run(config, straight, never)
    with pytest.raises(Interrupted):
        train.run(config, broken, Scripted(*[False] * 13, True))
    with pytest.raises(Interrupted):
        train.run(config, broken, Scripted(*[False] * 12, True))
    assert Checkpoints(broken.checkpoints).latest_step() == 27
    train.run(config, broken, never)
    timing = {"transitions_per_s"}
    rows = [[{k: v for k, v in m.items() if k not in timing} for m in metrics(w)]
            for w in (straight, broken)]  # fmt: skip
    assert rows[0] == rows[1] and len(rows[0]) == 4 * seeds


def test_the_rate_survives_a_resume_with_one_step_left(workdir_for, config, never):
    workdir = workdir_for(config)
    with pytest.raises(Interrupted):
        train.run(config, workdir, Scripted(*[False] * 38, True))
    before = restored(config, workdir)[1]["transitions_per_s"]
    train.run(config, workdir, never)
    after = restored(config, workdir)[1]["transitions_per_s"]
    assert after == before > 0
    assert metrics(workdir)[-1]["transitions_per_s"] == before


@pytest.mark.parametrize("prefix", ["events", "metrics"])
def test_a_full_disk_stops_training_at_the_next_line(
    workdir_for, config, never, monkeypatch, prefix
):
    """Whichever file it hits; and it never hangs."""
    original = open

    def full(path, *arguments, **options):
        name = pathlib.Path(path).name if isinstance(path, str | os.PathLike) else ""
        return original("/dev/full" if name.startswith(prefix) else path, *arguments, **options)

    config.train.log_every = 1
    workdir = workdir_for(config)
    monkeypatch.setattr(builtins, "open", full)
    raised = []

    def work():
        try:
            train.run(config, workdir, never)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(100)
    assert not thread.is_alive(), "training hangs"
    assert isinstance(raised[0], OSError) and "No space left" in str(raised[0])


def test_tensorboard_reads_each_step_once_after_a_resume(workdir_for, config, never):
    workdir = workdir_for(config)
    with pytest.raises(Interrupted):
        train.run(config, workdir, Scripted(*[False] * 14, True))
    train.run(config, workdir, never)
    values, starts = {}, []
    for path in sorted((workdir.path / "tensorboard").iterdir(), key=lambda p: p.stat().st_mtime):
        for event in events(path.read_bytes()):
            if event.HasField("session_log"):
                starts.append(event.step)
            for value in event.summary.value:
                values.setdefault(value.tag, []).append((event.step, value.simple_value))
    assert starts[-1] == 16
    want = [(m["step"], pytest.approx(m["loss"])) for m in metrics(workdir)]
    assert values["train/loss"] == want


def events(content):
    """The events of a TFRecord file: length, checksum, event, checksum."""
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        yield Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]


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
        ("mesh.data", 3, "do not multiply to the 4 devices"),
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


def test_bad_rewards_are_not_blamed_on_the_learning_rate():
    train.check_rewards({"loss": np.array([np.nan])}, 3)
    with pytest.raises(UserError, match=r"rewards .* at training step 3"):
        train.check_rewards({"loss": np.array([np.nan]), "trial_reward": np.array([np.inf])}, 3)
