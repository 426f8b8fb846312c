"""A stand-in for Google Cloud Storage: gs:// is a folder on this machine."""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator

import fsspec
import pytest
from etils.epath import backend, gpath
from fsspec.registry import _registry
from orbax.checkpoint._src.path import gcs_utils


class Bucket(fsspec.AbstractFileSystem):
    """Replaces gcsfs, with which epath opens gs://.

    A folder exists as long as it contains an object. Objects can't be appended to or renamed, and
    become visible once they are closed.
    """

    protocol = ("gcs", "gs")
    cachable = False
    root = pathlib.Path()  # where the buckets are

    def __init__(self, *, use_listings_cache: bool, **_):
        super().__init__()
        assert not use_listings_cache  # with it, gcsfs would miss what TensorStore writes

    def _at(self, path: str) -> pathlib.Path:
        return self.root / self._strip_protocol(path)

    def info(self, path: str, **_) -> dict:
        found, name = self._at(path), self._strip_protocol(path)
        if found.is_file():
            return {"name": name, "size": found.stat().st_size, "type": "file"}
        if any(inner.is_file() for inner in found.rglob("*")):
            return {"name": name, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def ls(self, path: str, detail: bool = True, **_) -> list:
        self.info(path)
        names = [f"{path}/{inner.name}" for inner in self._at(path).iterdir()]
        found = [self.info(name) for name in names if self.exists(name)]
        return found if detail else [info["name"] for info in found]

    def _open(self, path: str, mode: str, **_) -> io.IOBase:
        if mode == "rb":
            return self._at(path).open("rb")
        assert mode == "wb", f"a store can't open {path} with {mode!r}"
        return _Upload(self._at(path))

    def rm_file(self, path: str) -> None:
        if not self._at(path).is_dir():
            self._at(path).unlink()

    def mkdir(self, path: str, create_parents: bool = True, **_) -> None:
        pass

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        pass


class _Upload(io.BytesIO):
    def __init__(self, path: pathlib.Path):
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_name(f"upload of {self._path.name}")
            temporary.write_bytes(self.getvalue())
            os.replace(temporary, self._path)
        super().close()


@contextlib.contextmanager
def stand_in(root: pathlib.Path) -> Iterator[None]:
    """Makes gs://NAME the folder ``root``/NAME.

    epath uses ``Bucket``. TensorStore has a client of its own, in C++; where Orbax asks for it, it
    gets one for the folder instead. Everything else in Orbax works as for gs://, so a checkpoint is
    marked as complete by a file, not by its name.
    """
    place = lambda path: str(root / path.removeprefix("gs://"))
    files = lambda path: {"driver": "file", "path": place(path)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bucket, "root", root)
        patch.setitem(_registry, "gcs", Bucket)
        patch.setattr(gpath, "_is_tf_installed", lambda: False)
        patch.setattr(gcs_utils, "get_kvstore_for_gcs", files)
        patch.setattr(gcs_utils, "is_hierarchical_namespace_enabled", lambda path: False)
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        backend.fsspec_backend._get_filesystem.cache_clear()
        yield
    backend.fsspec_backend._get_filesystem.cache_clear()
