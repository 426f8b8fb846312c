"""A run is a folder: its config, its lock, and where each stage keeps its results."""

import errno
import fcntl
import json
import os
import platform
from typing import IO

import ml_collections

from ad_jax import build
from ad_jax.config import flat, of_today
from ad_jax.distributed import processes
from ad_jax.errors import UserError
from ad_jax.methods import METHODS
from ad_jax.paths import Path, as_path, is_remote, reason
from data_pipelines.files import Lease, read_json, write_text_atomically

# The output of each stage, in the order of the stages.
OUTPUT = {
    "collect": ("histories",),
    "train": ("checkpoints", "metrics.jsonl"),
    "evaluate": ("evaluation",),
    "report": ("report",),
}
# The first stage that reads each part of the config; for all other parts it is "collect". None: the
# mesh depends on the machine, and may change.
READ_BY = {
    "method": "train", "model": "train", "optimizer": "train",
    **{spec.group: "train" for spec in METHODS.values()},
    "evaluation": "evaluate", "mesh": None,
}  # fmt: skip
# Keys that change only the curves of a run, not its other output.
WATCHING = ("train.evaluate_every", "tracker")


class InUse(UserError):
    """Another process is using the folder."""


class Folders:
    """Where each stage of a run keeps its results.

    Attributes:
      path: the folder; ``histories``, ``checkpoints``, ``evaluation`` and ``report`` are in it.

    Args:
      path: the folder; it is neither created nor checked.
      histories, checkpoints: folders of another run to read instead of its own; None for its own.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        histories: Path | None = None,
        checkpoints: Path | None = None,
    ):
        self.path = as_path(path)
        self.histories = histories or self.path / "histories"
        self.checkpoints = checkpoints or self.path / "checkpoints"
        self.evaluation = self.path / "evaluation"
        self.report = self.path / "report"


class Workdir(Folders):
    """The folder of one run, locked against other runs while it is open.

    If a run has several processes, they share the folder, and the first one locks it. If the folder
    of an existing run can't be written to, it is opened read-only, without a lock.

    Attributes:
      read_only: whether it can't be written to, as process 0 sees it.
      profile: as given.

    Args:
      path: the folder; created if it does not exist.
      config: stored in the folder. A value can't change while the folder has output of the first
        stage that reads it, or of a later stage; those of sources, methods and cores that the run
        does not use can.
      histories, checkpoints: folders of another run to read instead of its own; None for its own.
      profile: folder for a trace of a few training steps; None for no trace.

    Raises:
      UserError: the folder can't be used, or has output made with another config.
      InUse: another process is using the folder.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        config: ml_collections.ConfigDict,
        *,
        histories: Path | None = None,
        checkpoints: Path | None = None,
        profile: str | None = None,
    ):
        if not os.fspath(path):
            raise UserError("--workdir= is empty: give a folder")
        super().__init__(path, histories=histories, checkpoints=checkpoints)
        self._lock: IO[str] | Lease | None = None
        self.read_only = False
        self.profile = profile
        busy: list[InUse] = []

        def opened() -> bool:
            try:
                self._lock_folder(path)
            except InUse as error:
                busy.append(error)
                return False
            try:
                self._check_config(config)
            except BaseException:
                self.close()
                raise
            return True

        if not processes.first_decides(opened):
            raise busy[0] if busy else InUse(f"{self.path} is in use")

    def _lock_folder(self, path: str | os.PathLike) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if is_remote(self.path):
                self._lock = Lease(self.path / "lock")
                return
            self._lock = lock = open(self.path / "lock", "a+", encoding="utf-8")
        except BlockingIOError as error:
            raise self._in_use(str(error)) from None
        except Exception as error:  # the clients of stores have errors of their own
            self.read_only = _not_writable(error) and (self.path / "config.json").exists()
            if self.read_only:
                return
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
        for folder in (self.histories, self.checkpoints, self.evaluation, self.report):
            if folder.exists() and not folder.is_dir():
                raise UserError(f"{folder} is not a folder: move it, or give another --workdir")
        path = self.path / "config.json"
        text = json.dumps(config.to_dict(), indent=1)
        if path.exists():
            remedy = "remove it, and the given config will be used for this folder"
            given = flat(json.loads(text))
            stored = of_today(flat(read_json(path, remedy)), given)
            keys = (given.keys() | stored) - set(WATCHING)
            keys = {k for k in keys if not build.is_unused(config, k)}
            changed = {k for k in keys if given.get(k) != stored.get(k)}
            if not changed:
                return
            self._refuse({k: f"{k} was {stored.get(k)}, is {given.get(k)}" for k in changed})
        if self.read_only:
            raise UserError(f"{self.path} can't be written to, and was made with another config")
        write_text_atomically(path, text)

    def _refuse(self, changes: dict[str, str]) -> None:
        """Raises a UserError if the folder has output made with the old value of a changed key."""
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

    def close(self) -> None:
        """Releases the lock."""
        if self._lock:
            self._lock.close()


def _has_content(path: Path) -> bool:
    if path.is_dir():
        return any(inner.suffix != ".tmp" for inner in path.iterdir())  # which was cut off
    return path.exists() and path.read_bytes() != b""


def _not_writable(error: Exception) -> bool:
    return getattr(error, "errno", None) in (errno.EROFS, errno.EACCES, errno.EPERM)
