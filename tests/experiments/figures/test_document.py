import json
import pathlib

import pytest

from experiments.figures import FIGURES, document
from experiments.reproduce import held

ROOT = pathlib.Path(__file__).parents[3]
COMMITTED = sorted((ROOT / "docs" / "figures").glob("fig*.json"))


def test_the_document_is_what_its_results_say():
    assert (ROOT / document.DOCUMENT).read_text() == document.text(ROOT / document.KEPT)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_committed_figure_says_what_its_numbers_say(path):
    """Its claims are told from its own panels, and the picture beside it is small."""
    made = json.loads(path.read_text())
    assert path.stem == f"fig{made['figure']:02}"
    assert made["claims"] == held(FIGURES[made["figure"]], made["preset"], made["panels"])
    assert path.with_suffix(".png").stat().st_size <= 300_000


@pytest.mark.parametrize(
    "held_claims, word",
    [
        ([True, True], "Reproduced."),
        ([True, False], "Partly reproduced."),
        ([False], "Not reproduced."),
        ([], "Drawn."),
    ],
)
def test_judgement(held_claims, word):
    assert document.judgement({"claims": dict(enumerate(held_claims))}) == word


def test_a_figure_that_was_not_run_is_marked(tmp_path):
    (tmp_path / "notes.json").write_text('{"8": "For want of time."}')
    assert "Not run. For want of time." in document.text(tmp_path)
