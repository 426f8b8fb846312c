"""Files that are there whole or not at all, and whose damage is noticed."""

import json
import os
import pathlib
import zlib
from typing import Any

from ad_jax.errors import UserError


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a text file that is there whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def checksum(path: pathlib.Path) -> int:
    """CRC-32 of a file."""
    crc = 0
    with open(path, "rb") as file:
        while part := file.read(1 << 22):
            crc = zlib.crc32(part, crc)
    return crc


def write_json(path: pathlib.Path, document: dict[str, Any]) -> None:
    """Writes a JSON object, whole or not at all, with a checksum of what it says."""
    write_atomically(path, json.dumps({**document, "checksum": _crc(document)}, indent=1))


def read_json(path: pathlib.Path, mend: str) -> dict[str, Any]:
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
