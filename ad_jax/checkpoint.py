"""Saving and restoring checkpoints with Orbax."""

import contextlib
import errno
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from ad_jax.errors import UserError
from ad_jax.paths import as_path, is_remote

_OVERHEAD = 2**17  # bytes of a checkpoint's own files
_NOT_DAMAGE = (UserError, OSError, MemoryError, jax.errors.JaxRuntimeError)


def newest(folder: str | os.PathLike) -> dict[str, Any] | None:
    """Finds the newest complete checkpoint of a folder.

    It only reads, and involves no other process.

    Returns:
      A dict with "step" and "params_checksum" (in older checkpoints "state_checksum"); None if
      there is no checkpoint.

    Raises:
      UserError: the checkpoint's metadata is damaged.
    """
    path = as_path(folder)
    if not (found := steps(path)):
        return None
    step = found[-1]
    stated = path / str(step) / "metadata" / "metadata"
    try:
        metadata = json.loads(stated.read_text())
        names = [name for name in ("params_checksum", "state_checksum") if name in metadata]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"checkpoint {step} in {path} is damaged ({type(error).__name__}): remove "
            f"{path / str(step)}, and training goes on from an older one or from the start"
        ) from error
    return {"step": step, **{name: metadata[name] for name in names[:1]}}


def steps(folder: str | os.PathLike) -> list[int]:
    """The steps of the complete checkpoints of a folder, in ascending order; only reads."""
    path = as_path(folder)
    return sorted(ocp.path.step.checkpoint_steps(os.fspath(path))) if path.exists() else []


class _Manager(ocp.CheckpointManager):
    """Never asks JAX whether a signal to stop has arrived.

    Every such check has a number, and the processes agree on the number at which all of them stop.
    Orbax would use the training step as that number. This would get mixed up with the checks of
    ``experiments.runtime.interruption``, and a signal could be lost.
    """

    def reached_preemption(self, step: int) -> bool:
        return False


class Checkpoints:
    """The checkpoints of one training run; the newest few are kept.

    They are written in the background. A checkpoint counts only once it is complete.

    Args:
      folder: where they are; a local path or one that TensorStore opens, as gs://bucket/folder.
      keep: how many to keep.
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 2):
        self._remote = is_remote(folder)
        self._folder = os.fspath(as_path(folder))
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
        self._manager = _Manager(self._folder, options=options)

    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint, or None.

        If a checkpoint is being written, it waits until that is done.

        Raises:
          OSError: that checkpoint could not be written.
        """
        self._manager.wait_until_finished()
        return self._manager.latest_step()

    def save(self, step: int, state: Any, metadata: dict[str, Any]) -> None:
        """Starts writing a checkpoint in the background, after waiting for the previous one.

        The checkpoint is written completely or not at all. Does nothing if the newest one already
        has this step.

        Args:
          step: its number.
          state: a TrainState, or another pytree of arrays with an attribute ``params``. It may be
            donated as soon as this returns.
          metadata: JSON values.

        Raises:
          OSError: there is not enough disk space (ENOSPC), or the previous checkpoint could not be
            written.
        """
        if step == self.latest_step():
            return
        # Checked in advance: running out of space midway fails in many threads at once.
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        if not self._remote and shutil.disk_usage(self._folder).free < 2 * size + _OVERHEAD:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._folder)
        # TensorStore notices a file cut short, but not a byte changed in an array.
        checksums = {
            "state_checksum": checksum(state),
            "params_checksum": checksum(state.params),
        }
        metadata = {**metadata, **checksums}
        metadata["checksum"] = zlib.crc32(_canonical(metadata))
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(_own_copy(state)),
                metadata=ocp.args.JsonSave(metadata),
            ),
        )

    def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """Reads a checkpoint.

        Args:
          step: its number.
          like: what was saved: arrays, or ShapeDtypeStructs with shardings.

        Returns:
          (state, metadata).

        Raises:
          UserError: the checkpoint is damaged, or holds parameters or an optimizer state of other
            shapes.
        """
        with self._reading(step):
            stored = self._stored(step)
            check_architecture(self._name(step), stored["params"], like.params)
            self._check_optimizer(step, stored, like.opt_state)
            args = ocp.args.Composite(state=ocp.args.StandardRestore(like))
            state = self._manager.restore(step, args=args)["state"]
            metadata, checksums = self._metadata(step)
            if checksums.get("state_checksum") not in (None, checksum(state)):
                raise ValueError("the state's checksum differs")
            return state, metadata

    def restore_params(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """Reads the parameters of a checkpoint, and nothing of the optimizer.

        Args:
          step: its number.
          like: the parameters that were saved: arrays, or ShapeDtypeStructs with shardings.

        Returns:
          (params, metadata).

        Raises:
          UserError: the checkpoint is damaged, or holds parameters of other shapes.
        """
        with self._reading(step), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            check_architecture(self._name(step), self._stored(step)["params"], like)
            item = {"params": like}
            args = ocp.args.PyTreeRestore(
                item=item,
                restore_args=ocp.checkpoint_utils.construct_restore_args(item),
                partial_restore=True,
            )
            params = reader.restore(self._state_folder(step), args=args)["params"]
            metadata, checksums = self._metadata(step)
            if checksums.get("params_checksum") not in (None, checksum(params)):
                raise ValueError("the parameters' checksum differs")
            return params, metadata

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        """Turns what Orbax and TensorStore raise for a damaged checkpoint into a UserError."""
        self._manager.wait_until_finished()
        try:
            yield
        except Exception as error:
            if isinstance(error, _NOT_DAMAGE) and not isinstance(error, FileNotFoundError):
                raise
            verdict, remedy = "is damaged", "remove"
            if self._remote:  # not every failure to reach a store is an OSError
                verdict, remedy = "can't be read", "if its store can be reached, remove"
            raise UserError(
                f"checkpoint {step} in {self._folder} {verdict} ({type(error).__name__}): {remedy} "
                f"{self._folder}/{step}, and training goes on from an older one or from the start"
            ) from error

    def _state_folder(self, step: int) -> str:
        return os.path.join(self._folder, str(step), "state")

    def _metadata(self, step: int) -> tuple[dict[str, Any], dict[str, int]]:
        """What was given to ``save``, and the checksums that it added."""
        args = ocp.args.Composite(metadata=ocp.args.JsonRestore())
        metadata = self._manager.restore(step, args=args)["metadata"]
        if metadata.pop("checksum", None) not in (None, zlib.crc32(_canonical(metadata))):
            raise ValueError("the metadata's checksum differs")
        checksums = {k: metadata.pop(k) for k in list(metadata) if k.endswith("_checksum")}
        return metadata, checksums

    def _stored(self, step: int) -> dict[str, Any]:
        """The shapes of what is stored, a tree for each part of the state."""
        handler = ocp.StandardCheckpointHandler()  # a Checkpointer looks for files of its own, too
        return handler.metadata(epath.Path(self._state_folder(step))).tree

    def _check_optimizer(self, step: int, stored: dict[str, Any], opt_state: Any) -> None:
        found, wanted = (
            sorted(leaf.shape for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape"))
            for tree in (stored["opt_state"], opt_state)
        )
        if found != wanted:
            raise UserError(
                f"checkpoint {step} in {self._folder} was written with another optimizer, or by a "
                "version of this program with a different optimizer state: continue with that "
                "version, or train again in another workdir"
            )

    def _name(self, step: int) -> str:
        return f"checkpoint {step} in {self._folder}"


def check_architecture(name: str, params: Any, like: Any) -> None:
    """Raises a UserError if stored parameters have other shapes than those of a model.

    Args:
      name: what is stored, for the error message.
      params: the stored parameters; a tree of arrays or of their shapes.
      like: the same for the model.
    """
    found, wanted = _shapes(params), _shapes(like)
    if found == wanted:
        return
    leaf = sorted(k for k in found.keys() | wanted if found.get(k) != wanted.get(k))[0]
    raise UserError(
        f"{name} has another architecture: {leaf} is {found.get(leaf, 'absent')} there and "
        f"{wanted.get(leaf, 'absent')} in the config: restore the model's settings, or use another "
        "workdir"
    )


def _own_copy(state: Any) -> Any:
    """Arrays that are not donated while they are written. On a CPU, Orbax makes no copy itself."""
    if jax.default_backend() != "cpu":
        return state
    return _copy(state)


@jax.jit
def _copy(state: Any) -> Any:
    return jax.tree.map(jnp.copy, state)


def checksum(state: Any) -> int:
    """Sum of all elements, read as unsigned integers of their width, modulo 2**32.

    It is the same on every mesh.
    """
    return int(_sum_of_words(state))


@jax.jit
def _sum_of_words(state: Any) -> jax.Array:
    def one(x):
        words = jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}")
        return words.astype(jnp.uint32).sum(dtype=jnp.uint32)

    return sum((one(x) for x in jax.tree.leaves(state)), jnp.zeros((), jnp.uint32))


def _canonical(metadata: dict[str, Any]) -> bytes:
    return json.dumps(metadata, sort_keys=True).encode()


def _shapes(params: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(key.key for key in path): tuple(leaf.shape) for path, leaf in leaves}
