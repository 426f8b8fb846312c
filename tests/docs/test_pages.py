"""The code on the pages runs as shown, and links lead somewhere."""

import contextlib
import importlib
import importlib.util
import pathlib
import re

import numpy as np
import pytest

from ad_jax import config
from data_pipelines import convert
from experiments.configs import dark_room
from experiments.runtime.interruption import Interruption
from experiments.runtime.workdir import Workdir
from experiments.stages import collect

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: str) -> list[str]:
    """The Python code of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "docs/learners.md"])
def test_a_learner_is_used_as_the_page_shows(page):
    names = {"observation": [4, 4], "reward": 0.0, "done": True}
    for block in blocks(page):
        exec(compile(block, page, "exec"), names)
    assert names["action"] in range(5)
    if page != "README.md":
        assert names["history"].reward.shape == (16, 8, 400)
        assert names["returns"].shape == (1, 20)


def test_the_quickstart_shows_the_returns_of_fifty_episodes(capsys):
    (block,) = blocks("docs/quickstart.md")
    names: dict = {}
    exec(compile(block, "docs/quickstart.md", "exec"), names)
    assert names["goal"] in names["learner"].tasks.heldout
    assert names["returns"].shape == (1, 50)
    assert len(capsys.readouterr().out.strip("[]\n").split()) == 50


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """A workdir with histories."""
    folder, config = tmp_path_factory.mktemp("pages") / "run", dark_room.get_config("smoke")
    with contextlib.closing(Workdir(folder, config)) as workdir:
        collect.run(config, workdir, Interruption())
    return folder


@pytest.fixture
def exported(collected, tmp_path, monkeypatch):
    """``exported(kind)`` enters a folder with exported NumPy or RLDS files, as on the page."""
    for kind in ("npz", "rlds"):
        folder = tmp_path / kind
        folder.mkdir()
        convert.take_out(collected, kind, folder / "exported")
    first = min((tmp_path / "npz" / "exported").iterdir())
    first.rename(first.with_name("task0000000000_stream00000.npz"))

    def enter(kind):
        monkeypatch.chdir(tmp_path / kind)

    return enter


@pytest.mark.parametrize("needs, kind", [("numpy", "npz"), ("tensorflow_datasets", "rlds"),
                                         ("torch", "npz")])  # fmt: skip
def test_histories_are_read_as_the_page_shows(needs, kind, exported):
    """Runs the block that imports ``needs``, in a folder with exported histories."""
    pytest.importorskip(needs)
    (block,) = [b for b in blocks("docs/your_own.md") if f"import {needs}" in b][:1]
    exported(kind)
    names: dict = {}
    exec(compile(block, "docs/your_own.md", "exec"), names)
    if needs == "numpy":
        assert names["history"]["actions"].shape == names["history"]["rewards"].shape
    elif needs == "torch":
        batch = next(iter(names["loader"]))
        assert batch["observations"].shape == (32, 80, 2)
    else:
        assert names["steps"][0]["is_first"] and names["steps"][-1]["is_last"]
        assert np.isfinite([step["reward"] for step in names["steps"]]).all()


def anchors(page: pathlib.Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_settings_exist(page):
    text = page.read_text()
    for module in re.findall(r"python -m (\w[\w.]*)", text):
        assert importlib.util.find_spec(module), module
    settings = config.flat(config.defaults().to_dict())
    groups = "collect|evaluation|mesh|model|optimizer|rl2|tasks|train"
    for setting in re.findall(rf"(?:`|--config\.)((?:{groups})\.(?!py`)[a-z][a-z0-9_]*)[=`]", text):
        assert setting in settings, setting


def test_the_readme_is_one_page():
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_the_table_of_configs_has_every_preset():
    table = (ROOT / "docs" / "running.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (`.*) \|$", table, re.MULTILINE))
    configs = [path.stem for path in (ROOT / "experiments/configs").glob("*.py")]
    for name in set(configs) - {"__init__", "common", "stored"}:
        module = importlib.import_module(f"experiments.configs.{name}")
        assert set(re.findall(r"`([\w-]+)`", rows[name])) == set(module.PRESETS), name
