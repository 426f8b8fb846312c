"""Files that are there whole or not at all, and whose damage is noticed.

A path may be one of a store, as gs://bucket/folder. There a file can't be renamed, appended to or
locked, but is only seen once all of it is written. What follows from that stands here.
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

_ABANDONED = 24 * 3600.0  # seconds after which nobody writes a temporary file any more


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[pathlib.Path]:
    """Gives a file of this machine to be written; if all goes well, it then becomes ``path``.

    Its name until then belongs to this call alone, so that several may write the same path.
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
    """A lock for a store: a file that names its owner, who changes it every few seconds.

    A file that has not changed for a while belongs to an owner that is gone, and is taken over; no
    clocks are compared. Two that begin within the same moment may both succeed on a store: the
    file is read once more after it is written, which makes that unlikely.

    Args:
      path: of the file; empty or missing while nobody holds it.
      beat: seconds between two changes.
      expiry: seconds without a change after which the owner is taken to be gone.

    Raises:
      BlockingIOError: another owner, which it names, is alive.
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
    """Gives a folder of this machine, to write files in as one likes, and ``publish``.

    It is the folder itself or, for a store, another one, whose files ``publish`` copies there as
    they are then; so does the end.
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
    """A folder of this machine with some files of another: that one itself or, of a store, a copy.

    A copy is kept below $XDG_CACHE_HOME, or ~/.cache, for whoever asks again. Processes that ask
    at the same time wait for each other.

    Args:
      folder: where the files are.
      names: of the files; those that are missing there are missing in the copy.
      key: another one for other files, whatever their folder.
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
    """Writes a JSON object, whole or not at all, with a checksum of what it says."""
    write_text_atomically(path, json.dumps({**document, "checksum": _crc(document)}, indent=1))


def read_json(path: Path, mend: str) -> dict[str, Any]:
    """Reads a JSON object; a checksum is compared where there is one, and left out.

    Raises:
      UserError: it is damaged; ``mend`` is what the user can do.
    """
    try:
        document = json.loads(path.read_text())
    except ValueError as error:  # not JSON, or not UTF-8
        raise UserError(f"{path} is damaged ({error}): {mend}") from error
    if not isinstance(document, dict):
        raise UserError(f"{path} is damaged (it holds no JSON object): {mend}")
    expected = document.pop("checksum", None)
    if expected not in (None, _crc(document)):
        raise UserError(f"{path} is damaged (its checksum differs): {mend}")
    return document


def _crc(document: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(document).encode())


def disk_is_full(error: BaseException | None) -> bool:
    """Whether a full disk or quota began it; ArrayRecord and Orbax raise other types of it."""
    while error is not None:
        if any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT)):
            return True
        error = error.__cause__ or error.__context__
    return False
