"""Sphinx makes a site from the pages and the docstrings."""

import pathlib
import subprocess
import sys

import pytest
from sphinx.util.inventory import InventoryFile

from ad_jax.envs.registry import ENVIRONMENTS
from ad_jax.methods import METHODS
from ad_jax.models import CORES
from ad_jax.sources import SOURCES

ROOT = pathlib.Path(__file__).parents[2]
USED = [
    "ad_jax.load", "ad_jax.Learner.act", "ad_jax.gymnasium.evaluate", "ad_jax.interfaces.History",
    "ad_jax.envs.checker.check_env", "ad_jax.rollout.make_rollouts", "ad_jax.config.defaults",
    "ad_jax.distributed.sharding.jit_on_mesh", "data_pipelines.reader.Histories.read",
]  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, which is built without a warning."""
    folder = tmp_path_factory.mktemp("site")
    options = "--fail-on-warning", "--keep-going", "--quiet", "-c", "docs"
    made = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, ".", folder],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="module")
def described(site):
    """The names that API pages describe, by kind."""
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    return {kind: set(names) for kind, names in inventory.items()}


def test_every_page_can_be_reached_from_the_first(site):
    assert "docs/index.html" in (site / "index.html").read_text()
    first = (site / "docs" / "index.html").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.stem == "index" or f'href="{page.stem}.html"' in first, page
    for page in ("CONTRIBUTING", "CHANGELOG", "ad_jax/weights/dark_room"):
        assert f'href="../{page}.html"' in first, page


@pytest.mark.parametrize("name", USED)
def test_what_users_call_is_described(name, described):
    assert any(name in names for names in described.values())


def test_what_a_config_can_name_is_described(described):
    specs = [spec.make for spec in (*SOURCES.values(), *METHODS.values())]
    for part in (*ENVIRONMENTS.values(), *CORES.values(), *specs):
        assert part.__module__ in described["py:module"], part
