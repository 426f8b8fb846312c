"""A folder in which all tests of figures share their runs, across pytest's workers."""

import os

import pytest


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """The workdir of the smoke preset."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "figures"
