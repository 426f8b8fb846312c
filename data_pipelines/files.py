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
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ad_jax.errors import UserError
from ad_jax.paths import Path, is_remote


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[pathlib.Path]:
    """Gives a file of this machine to be written; if all goes well, it then becomes ``path``."""
    if is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            temporary = pathlib.Path(folder, path.name)
            yield temporary
            path.write_bytes(temporary.read_bytes())
        return
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
