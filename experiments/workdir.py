"""A run is a folder: its config, its lock, and where each stage keeps its results."""

import fcntl
import json
import os
import pathlib
from typing import Any

import ml_collections

from ad_jax.errors import UserError
from data_pipelines.files import write_atomically


class Workdir:
    """The folder of one run, locked against other processes while it is open.

    Attributes:
      path: the folder; ``histories``, ``checkpoints``, ``metrics``, ``evaluation`` and
        ``report`` are in it.

    Args:
      path: is made if it does not exist.
      config: is stored at the first use, and compared with the stored one later.

    Raises:
      UserError: another process is at work there, or another config was.
    """

    def __init__(self, path: str | os.PathLike, config: ml_collections.ConfigDict):
        self.path = pathlib.Path(path).resolve()
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--workdir={path} is a file: give a folder")
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.path / "lock", "a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            raise UserError(
                f"{self.path} is in use by process {self._lock.read().strip() or 'unknown'}: "
                "wait for it, stop it, or use another --workdir"
            ) from None
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()
        self._check_config(config)

    def _check_config(self, config: ml_collections.ConfigDict) -> None:
        path = self.path / "config.json"
        given = json.loads(json.dumps(config.to_dict()))
        if not path.exists():
            write_atomically(path, json.dumps(given, indent=1))
            return
        given, stored = _flat(given), _flat(json.loads(path.read_text()))
        keys = sorted(k for k in given.keys() | stored if given.get(k) != stored.get(k))
        if keys:
            changes = ", ".join(f"{k} was {stored.get(k)}, is {given.get(k)}" for k in keys)
            raise UserError(
                f"{self.path} was made with another config ({changes}): give another --workdir, "
                "or the stored values"
            )

    @property
    def histories(self) -> pathlib.Path:
        return self.path / "histories"

    @property
    def checkpoints(self) -> pathlib.Path:
        return self.path / "checkpoints"

    @property
    def evaluation(self) -> pathlib.Path:
        return self.path / "evaluation"

    @property
    def report(self) -> pathlib.Path:
        return self.path / "report"

    def close(self) -> None:
        """Lets go of the lock."""
        self._lock.close()


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        inner = isinstance(value, dict) and value
        flat.update(_flat(value, f"{prefix}{key}.") if inner else {prefix + key: value})
    return flat
