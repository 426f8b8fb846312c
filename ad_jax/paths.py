"""Paths on this machine, and in stores such as gs://bucket/folder."""

import os
import pathlib
from typing import TypeAlias

import fsspec
from etils import epath

from ad_jax.errors import UserError

Path: TypeAlias = pathlib.Path | epath.Path  # only methods that both have are used
STORES = ("gs", "s3", "az", "hf")

# Their clients would cache listings, and then miss what other processes or TensorStore write.
for _name in STORES:
    fsspec.config.conf.setdefault(_name, {}).setdefault("use_listings_cache", False)


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is in a store."""
    return "://" in os.fspath(path)


def as_path(path: str | os.PathLike) -> Path:
    """An absolute path, on this machine or in a store.

    Raises:
      UserError: there is no such kind of store, its client is not installed or can't reach it.
    """
    if not is_remote(path):
        return pathlib.Path(path).resolve()
    try:
        opened = epath.Path(path)
        opened.exists()  # imports the client
    except Exception as error:
        kinds = ", ".join(f"{name}://" for name in STORES)
        raise UserError(
            f"{path} can't be opened ({reason(error)}): stores are {kinds}, and each needs a "
            "package of its own; pip install '.[gcs]' installs the one for gs://"
        ) from error
    return opened


def reason(error: Exception) -> str:
    """Why something failed, in one line."""
    text = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    return " ".join(text.split())
