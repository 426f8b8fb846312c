"""A run is a folder: its config, its lock, and where each stage keeps its results."""

import fcntl
import json
import os
import platform
from typing import IO, Any

import ml_collections

from ad_jax.distributed import processes
from ad_jax.errors import UserError
from ad_jax.methods import METHODS
from ad_jax.paths import Path, as_path, is_remote, reason
from data_pipelines.files import Lease, read_json, write_text_atomically

# What each stage leaves, in their order.
OUTPUT = {
    "collect": ("histories",),
    "train": ("checkpoints", "metrics.jsonl"),
    "evaluate": ("evaluation",),
    "report": ("report",),
}
# The first stage that reads a part of the config. The rest is of "collect" or names the run; the
# mesh is a matter of the machine.
READ_BY = {
    "method": "train", "model": "train", "optimizer": "train",
    **{spec.group: "train" for spec in METHODS.values()},
    "evaluation": "evaluate", "mesh": None,
}  # fmt: skip
# Keys that change nothing that a run leaves but its curves.
WATCHING = ("train.evaluate_every",)


class InUse(UserError):
    """Another process is at work in the folder."""


class Workdir:
    """The folder of one run, locked against other runs while it is open.

    Where a run has several processes, they share the folder, and the first one locks it.

    Attributes:
      path: the folder; ``histories``, ``checkpoints``, ``metrics``, ``evaluation`` and
        ``report`` are in it.

    Args:
      path: is made if it does not exist.
      config: is stored. What a stage has read must stay as it was while the output of that stage,
        or of a later one, is there.
      histories, checkpoints: of another run, that this one reads; its own where they are None.

    Raises:
      UserError: the folder can't be used, or another config was.
      InUse: another process is at work there.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        config: ml_collections.ConfigDict,
        *,
        histories: Path | None = None,
        checkpoints: Path | None = None,
    ):
        self.path = as_path(path)
        self._histories, self._checkpoints = histories, checkpoints
        self._lock: IO[str] | Lease | None = None
        if processes.is_first():
            self._lock_folder(path)
            try:
                self._check_config(config)
            except BaseException:
                self.close()
                raise
        processes.barrier("workdir")

    def _lock_folder(self, path: str | os.PathLike) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if is_remote(self.path):
                self._lock = Lease(self.path / "lock")
                return
            self._lock = lock = open(self.path / "lock", "a+")
        except BlockingIOError as error:
            raise self._in_use(str(error)) from None
        except Exception as error:  # the clients of stores have errors of their own
            raise UserError(
                f"--workdir={path} can't be used ({reason(error)}): give another folder"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise self._in_use(lock.read().strip() or "(unknown)") from None
        lock.truncate(0)
        lock.write(f"{os.getpid()} on {platform.node()}")
        lock.flush()

    def _in_use(self, owner: str) -> InUse:
        return InUse(
            f"{self.path} is in use by process {owner}: wait for it, stop it, or use another "
            "--workdir"
        )

    def _check_config(self, config: ml_collections.ConfigDict) -> None:
        path = self.path / "config.json"
        text = json.dumps(config.to_dict(), indent=1)
        if path.exists():
            mend = "remove it, and the config given is taken to be that of this folder"
            given, stored = flat(json.loads(text)), flat(read_json(path, mend))
            keys = (given.keys() | stored) - set(WATCHING)
            changed = {k for k in keys if given.get(k) != stored.get(k)}
            if not changed:
                return
            self._refuse({k: f"{k} was {stored.get(k)}, is {given.get(k)}" for k in changed})
        write_text_atomically(path, text)

    def _refuse(self, changes: dict[str, str]) -> None:
        """Raises UserError if what is in the folder was made with the former value of a key."""
        stages = list(OUTPUT)
        refused, outdated = [], []
        for key in sorted(changes):
            reader = READ_BY.get(key.split(".")[0], "collect")
            later = stages[stages.index(reader) :] if reader else []
            output = [path for s in later for n in OUTPUT[s] if _has_content(path := self.path / n)]
            if output:
                refused.append(changes[key])
                outdated = max(outdated, output, key=len)
        if refused:
            raise UserError(
                f"{self.path} was made with another config ({', '.join(refused)}): give another "
                f"--workdir, or the stored values, or remove {' and '.join(map(str, outdated))}"
            )

    @property
    def histories(self) -> Path:
        return self._histories or self.path / "histories"

    @property
    def checkpoints(self) -> Path:
        return self._checkpoints or self.path / "checkpoints"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation"

    @property
    def report(self) -> Path:
        return self.path / "report"

    def close(self) -> None:
        """Lets go of the lock."""
        if self._lock:
            self._lock.close()


def _has_content(path: Path) -> bool:
    if path.is_dir():
        return any(inner.suffix != ".tmp" for inner in path.iterdir())  # which was cut off
    return path.exists() and path.read_bytes() != b""


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a config by dotted key."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        inner = isinstance(value, dict) and value
        leaves.update(flat(value, f"{prefix}{key}.") if inner else {prefix + key: value})
    return leaves
