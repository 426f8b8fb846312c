import os
import pathlib
import sys

import pytest
from etils.epath import backend
from fsspec.registry import _registry

from ad_jax.errors import UserError
from ad_jax.paths import as_path, is_remote


def test_a_path_is_absolute_and_stays_what_it_is(tmp_path, bucket, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert as_path("run") == as_path(pathlib.Path("run")) == tmp_path / "run"
    remote = as_path(f"{bucket[0]}/run")
    assert as_path(remote) == remote and os.fspath(remote / "x") == f"{bucket[0]}/run/x"
    assert is_remote(remote) and not is_remote(tmp_path)


@pytest.mark.parametrize("path", ["ftp://machine/run", "gs://bucket/run"])
def test_a_store_that_nothing_opens_is_a_user_error(path, monkeypatch):
    """A kind of store that does not exist, and Google's if its client is not installed."""
    monkeypatch.delitem(_registry, "gcs", raising=False)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    backend.fsspec_backend._get_filesystem.cache_clear()
    with pytest.raises(UserError, match=rf"^{path} can't be opened .* pip install '.\[gcs\]'"):
        as_path(path)
    backend.fsspec_backend._get_filesystem.cache_clear()
