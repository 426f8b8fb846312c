import json
import pathlib

import pytest

from ad_jax.errors import UserError
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


def figure(folder, number, preset, picture=b"new"):
    folder.mkdir(exist_ok=True)
    (folder / f"fig{number:02}.json").write_text(json.dumps({"preset": preset}))
    (folder / f"fig{number:02}.png").write_bytes(picture)


def test_figures_of_another_preset_are_not_replaced(tmp_path):
    made, kept = tmp_path / "made", tmp_path / "kept"
    figure(made, 3, "smoke")
    figure(made, 4, "smoke")
    figure(made, 5, "cpu")
    figure(kept, 4, "cpu", picture=b"old")
    with pytest.raises(UserError, match=r"another preset than smoke: fig04 \(cpu\)"):
        document.keep(made, "smoke", kept)
    assert {path.name for path in kept.iterdir()} == {"fig04.json", "fig04.png"}
    assert (kept / "fig04.png").read_bytes() == b"old"

    document.keep(made, "cpu", kept)
    assert (kept / "fig05.png").exists() and not (kept / "fig03.png").exists()

    document.keep(made, "smoke", kept, replace=True)
    assert (kept / "fig04.png").read_bytes() == b"new" and (kept / "fig03.png").exists()
    with pytest.raises(UserError, match="no figures of the preset paper"):
        document.keep(made, "paper", kept)


@pytest.mark.parametrize("arguments", [["figures"], ["--preset=cpu"]])
def test_a_folder_needs_its_preset(arguments, capsys):
    with pytest.raises(SystemExit):
        document.main(arguments)
    assert "give a folder and --preset, or neither" in capsys.readouterr().err
