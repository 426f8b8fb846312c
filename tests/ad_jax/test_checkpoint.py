import contextlib
import errno
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.experimental import multihost_utils
from orbax.checkpoint import type_handlers

from ad_jax import checkpoint
from ad_jax.checkpoint import Checkpoints
from ad_jax.distributed import sharding
from ad_jax.errors import UserError
from ad_jax.methods.train_state import TrainState


def state(width=3, value=1.5):
    params = {"layer": {"kernel": jnp.full((2, width), value)}}
    return TrainState(jnp.int32(7), params, (jnp.arange(4), {"mu": params}))


def test_what_is_restored_is_what_was_saved(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step() is None
    checkpoints.save(7, state(), {"seconds": 1.25})
    checkpoints.close()

    reopened = Checkpoints(tmp_path)
    assert reopened.latest_step() == 7
    restored, metadata = reopened.restore(7, state(value=0.0))
    jax.tree.map(np.testing.assert_array_equal, restored, state())
    assert metadata == {"seconds": 1.25}


def test_a_checkpoint_goes_onto_another_mesh(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    four = sharding.replicated(sharding.make_mesh())
    checkpoints.save(1, state(), {})
    restored, _ = checkpoints.restore(1, jax.device_put(state(value=0.0), four))
    kernel = restored.params["layer"]["kernel"]
    assert kernel.sharding == four
    np.testing.assert_array_equal(kernel, state().params["layer"]["kernel"])


def test_another_architecture_is_refused_by_name(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(), {})
    with pytest.raises(UserError, match=r"layer/kernel is \(2, 3\) there and \(2, 5\)"):
        checkpoints.restore(1, state(width=5))


def test_another_optimizer_is_no_damage(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(), {})
    other = state().replace(opt_state=(jnp.arange(4),))
    with pytest.raises(UserError, match=r"with another optimizer, or by a version"):
        checkpoints.restore(1, other)


def test_a_full_disk_is_found_before_anything_is_written(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(), {})
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(2, state(), {})
    assert checkpoints.latest_step() == 1
    assert not [p for p in tmp_path.iterdir() if "tmp" in p.name]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's threads
def test_damage_is_noticed_and_named(tmp_path):
    """Each file is truncated, or has a random bit flipped (seeded)."""
    whole, harmed = tmp_path / "whole", tmp_path / "harmed"
    with contextlib.closing(Checkpoints(whole)) as checkpoints:
        checkpoints.save(7, state(), {"seconds": 1.25})
    rng = np.random.default_rng(0)
    noticed = set()
    for path in sorted(p for p in (whole / "7").rglob("*") if p.is_file()):
        content = path.read_bytes()
        changed = [content[: len(content) // 2]]
        for bit in rng.integers(8 * len(content), size=3 if content else 0):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            changed.append(bytes(flipped))
        for damage in changed:
            shutil.copytree(whole, harmed)
            (harmed / path.relative_to(whole)).write_bytes(damage)
            with contextlib.closing(Checkpoints(harmed)) as checkpoints:
                try:
                    restored, metadata = checkpoints.restore(7, state(value=0.0))
                except UserError as error:
                    assert f"remove {harmed}/7" in str(error) and "\n" not in str(error)
                    noticed.add(path.name)
                else:  # in a file that isn't needed
                    jax.tree.map(np.testing.assert_array_equal, restored, state())
                    assert metadata.get("seconds") == 1.25
            shutil.rmtree(harmed)
    assert {"metadata", "_METADATA", "manifest.ocdbt"} < noticed


def test_an_array_changed_on_disk_is_noticed(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(7, state(), {})
    original = checkpoints._manager.restore

    def harmed(step, args):
        restored = original(step, args=args)
        if "state" in restored:
            restored["state"].params["layer"]["kernel"] += 1
        return restored

    checkpoints._manager.restore = harmed
    with pytest.raises(UserError, match=r"checkpoint 7 in .* is damaged"):
        checkpoints.restore(7, state())


def test_errors_of_the_system_pass_through(tmp_path, monkeypatch):
    """They are not reported as damage of the checkpoint."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(7, state(), {})

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints._manager, "restore", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.restore(7, state())


def test_old_checkpoints_go_and_a_step_is_saved_once(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, state(value=float(step)), {})
    checkpoints.save(3, state(value=9.0), {})
    assert checkpoints.latest_step() == 3
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.isdigit()) == ["2", "3"]
    restored, _ = checkpoints.restore(3, state())
    assert restored.params["layer"]["kernel"][0, 0] == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's threads
def test_in_a_bucket(bucket):
    """See tests/store.py for the stand-in, and for how TensorStore reaches it."""
    path, folder = bucket
    checkpoints = Checkpoints(path)
    assert checkpoints.latest_step() is None
    for step in (1, 2, 3):
        checkpoints.save(step, state(value=float(step)), {"seconds": 1.25})
    assert checkpoints.latest_step() == 3
    assert {p.relative_to(folder).parts[0] for p in folder.rglob("*") if p.is_file()} == {"2", "3"}
    reopened = Checkpoints(path)
    assert reopened.latest_step() == 3
    restored, metadata = reopened.restore(3, state(value=0.0))
    jax.tree.map(np.testing.assert_array_equal, restored, state(value=3.0))
    assert metadata == {"seconds": 1.25}

    (folder / "3" / "commit_success.txt").unlink()  # as after a SIGKILL
    assert Checkpoints(path).latest_step() == 2
    (folder / "2" / "state" / "manifest.ocdbt").write_bytes(b"")
    with pytest.raises(UserError, match=rf"checkpoint 2 in {path} can't be read .* {path}/2, "):
        Checkpoints(path).restore(2, state())


def test_parameters_are_read_without_the_optimizer(tmp_path):
    """They get the requested sharding; parameters of other shapes are refused."""
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(7, state(width=8), {"seconds": 1.25})
    where = sharding.make_mesh(data=1, fsdp=4)
    spread = jax.sharding.NamedSharding(where, jax.sharding.PartitionSpec(None, "fsdp"))
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=spread), state(width=8).params
    )
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        params, metadata = checkpoints.restore_params(7, like)
        kernel = params["layer"]["kernel"]
        assert metadata == {"seconds": 1.25} and kernel.sharding == spread
        np.testing.assert_array_equal(kernel, state(width=8).params["layer"]["kernel"])
        with pytest.raises(UserError, match=r"layer/kernel is \(2, 8\) there and \(2, 5\)"):
            checkpoints.restore_params(7, state(width=5).params)


def test_a_parameter_changed_on_disk_is_noticed(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(7, state(), {})
    original = ocp.Checkpointer.restore

    def harmed(*arguments, **options):
        restored = original(*arguments, **options)
        restored["params"]["layer"]["kernel"] += 1
        return restored

    checkpoints.latest_step()
    monkeypatch.setattr(ocp.Checkpointer, "restore", harmed)
    with pytest.raises(UserError, match=r"checkpoint 7 in .* is damaged"):
        checkpoints.restore_params(7, state().params)


def test_what_is_saved_may_be_donated_at_once(tmp_path):
    """It is written in the background, from a copy."""
    checkpoints = Checkpoints(tmp_path)
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    params = {"layer": {"kernel": jnp.zeros((500, 1000))}}
    running = TrainState(jnp.int32(0), params, (jnp.zeros(500_000),))
    for number in range(1, 4):
        for _ in range(5):
            running = step(running)
        checkpoints.save(number, running, {})
    for _ in range(5):
        running = step(running)
    restored, _ = checkpoints.restore(checkpoints.latest_step(), running)
    assert int(restored.step) == 15 and set(np.unique(restored.opt_state[0])) == {15.0}


def test_a_checkpoint_that_could_not_be_written_is_an_error(tmp_path, monkeypatch):
    """Also if that happens in the background; and it does not count."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(), {})
    assert checkpoints.latest_step() == 1

    async def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type_handlers.ArrayHandler, "serialize", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(2, state(), {})
        checkpoints.latest_step()
    assert Checkpoints(tmp_path).latest_step() == 1


def test_orbax_asks_nothing_about_signals(tmp_path, monkeypatch):
    """The training loop does that; see ``experiments.runtime.interruption``."""

    def ask(number):
        raise AssertionError(f"asked with {number}")

    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", ask)
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(7, state(), {})
    assert checkpoint.newest(tmp_path)["step"] == 7
