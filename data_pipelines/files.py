"""Files that are there whole or not at all, and whose damage is noticed."""

import os
import pathlib
import zlib


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
