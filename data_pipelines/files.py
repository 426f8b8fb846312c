"""Files that are written completely or not at all, with checksums that detect damage.

A path may be in an object store, such as gs://bucket/folder. There a file can't be renamed,
appended to or locked, but only becomes visible once all of it is written. This module hides these
differences.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pathlib
import platform
import re
import secrets
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ad_jax.errors import UserError
from ad_jax.paths import Path, is_remote

_ABANDONED = 24 * 3600.0  # seconds after which a temporary file is taken to be abandoned


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[pathlib.Path]:
    """Yields the path of a temporary local file; it becomes ``path`` if no exception is raised.

    The temporary name is unique to this call, so several processes may write the same path.
    """
    if is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            temporary = pathlib.Path(folder, path.name)
            yield temporary
            path.write_bytes(temporary.read_bytes())
        return
    owner = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f"{path.name}.{owner}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Removes temporary files of ``atomic_write`` whose process is gone, or that are a day old."""
    if is_remote(folder):  # none are written there
        return
    ours = re.compile(rf"\.{re.escape(platform.node())}-(\d+)-[0-9a-f]{{8}}\.tmp$")
    for path in folder.glob("*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            made_here = ours.search(path.name)
            gone = made_here is not None and not _is_alive(int(made_here[1]))
            if gone or time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


class Lease:
    """A lock for an object store: a file that names its owner, which rewrites it periodically.

    If the file has not changed for a while, its owner is taken to be gone, and the lock is taken
    over; clocks of different machines are not compared. Two processes that start at the same moment
    could both get the lock. The file is read again after it is written, which makes this unlikely.

    Args:
      path: the lock file; it is empty or missing while nobody holds the lock.
      beat: seconds between two changes.
      expiry: seconds without a change after which the owner is taken to be gone.

    Raises:
      BlockingIOError: another process holds the lock; the message names it.
    """

    def __init__(self, path: Path, beat: float = 5.0, expiry: float = 20.0):
        self._path, self._beat = path, beat
        self._host, self._pid = platform.node(), os.getpid()
        self._token, self._number = secrets.token_hex(4), 0
        self._wait_until_free(expiry)
        self._write()
        if (found := self._read()).get("token") != self._token:
            raise BlockingIOError(self._name(found))
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Gives the lock back."""
        self._closed.set()
        self._thread.join()
        if self._read().get("token") == self._token:
            self._path.write_text("")

    def _wait_until_free(self, expiry: float) -> None:
        """Returns at once if nobody holds the file, else after ``expiry`` seconds of silence."""
        first, began = self._read(), time.monotonic()
        here = first.get("host") == self._host
        if not first or (here and not _is_alive(first["pid"])):
            return
        while time.monotonic() - began < expiry:
            time.sleep(self._beat / 5)
            if (now := self._read()) != first:
                if now:
                    raise BlockingIOError(self._name(now))
                return

    def _run(self) -> None:
        while not self._closed.wait(self._beat):
            with contextlib.suppress(Exception):  # the store may be there again at the next beat
                if self._read().get("token") != self._token:
                    return  # it was taken over
                self._write()

    def _read(self) -> dict[str, Any]:
        try:
            return json.loads(self._path.read_text() or "{}")
        except FileNotFoundError:
            return {}

    def _write(self) -> None:
        self._number += 1
        owner = {"pid": self._pid, "host": self._host, "token": self._token}
        write_text_atomically(self._path, json.dumps({**owner, "beat": self._number}))

    @staticmethod
    def _name(owner: dict[str, Any]) -> str:
        return f"{owner.get('pid')} on {owner.get('host')}"


@contextlib.contextmanager
def growing(folder: Path) -> Iterator[tuple[pathlib.Path, Callable[[], None]]]:
    """Yields a local folder, whose files may also be appended to, and a function ``publish``.

    The local folder is ``folder`` itself or, for a store, a temporary one. Then ``publish`` copies
    its current files to the store; this also happens at the end of the context.
    """
    if not is_remote(folder):
        yield folder, lambda: None
        return
    with tempfile.TemporaryDirectory() as scratch:

        def publish() -> None:
            for file in pathlib.Path(scratch).rglob("*"):
                if file.is_file():
                    (folder / file.relative_to(scratch)).write_bytes(file.read_bytes())

        try:
            yield pathlib.Path(scratch), publish
        finally:
            publish()


def local_copy(folder: Path, names: Iterable[str], key: str) -> pathlib.Path:
    """A local folder with some files of ``folder``: that folder itself or, for a store, a copy.

    Copies are cached in $XDG_CACHE_HOME/ad_jax, or in ~/.cache/ad_jax. Processes that need the same
    copy at the same time wait for each other.

    Args:
      folder: where the files are.
      names: names of the files; files that are missing there are missing in the copy as well.
      key: identifies the contents of the files: other contents need another key.
    """
    if not is_remote(folder):
        return folder
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    copy = cache / "ad_jax" / hashlib.sha256(key.encode()).hexdigest()
    copy.mkdir(parents=True, exist_ok=True)
    with open(copy / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in names:
            if not (copy / name).exists():
                with contextlib.suppress(FileNotFoundError), atomic_write(copy / name) as file:
                    file.write_bytes((folder / name).read_bytes())
    return copy


def write_text_atomically(path: Path, text: str) -> None:
    """Writes a text file that is there whole or not at all."""
    with atomic_write(path) as file:
        file.write_text(text)


def fingerprint(path: Path) -> dict[str, int]:
    """Size and checksum of a file: bytes and crc32."""
    size = crc = 0
    with path.open("rb") as file:
        while part := file.read(1 << 22):
            size, crc = size + len(part), zlib.crc32(part, crc)
    return {"bytes": size, "crc32": crc}


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Writes a JSON object, completely or not at all, with a checksum of its contents."""
    write_text_atomically(path, json.dumps({**document, "checksum": _crc(document)}, indent=1))


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Reads a JSON object; verifies and removes its checksum, if it has one.

    Raises:
      UserError: it is damaged; ``remedy`` tells the user what to do.
    """
    try:
        document = json.loads(path.read_text())
    except ValueError as error:  # not JSON, or not UTF-8
        raise UserError(f"{path} is damaged ({error}): {remedy}") from error
    if not isinstance(document, dict):
        raise UserError(f"{path} is damaged (it is not a JSON object): {remedy}")
    expected = document.pop("checksum", None)
    if expected not in (None, _crc(document)):
        raise UserError(f"{path} is damaged (its checksum differs): {remedy}")
    return document


def _crc(document: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(document).encode())


def disk_is_full(error: BaseException | None) -> bool:
    """Whether a full disk or quota caused an error; ArrayRecord and Orbax wrap it in their own."""
    while error is not None:
        if any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT)):
            return True
        error = error.__cause__ or error.__context__
    return False
