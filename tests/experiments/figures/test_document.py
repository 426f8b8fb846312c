import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from ad_jax.errors import UserError
from experiments.figures import FIGURES, document
from experiments.figures.figure import judged
from experiments.pictures import style

ROOT = pathlib.Path(__file__).parents[3]
COMMITTED = sorted((ROOT / "docs" / "figures").glob("fig*.json"))


def test_the_document_is_what_its_results_say():
    assert (ROOT / document.DOCUMENT).read_text() == document.text(ROOT / document.KEPT)
    claims = json.loads((ROOT / document.CLAIMS).read_text())
    assert claims == document.claims(ROOT / document.KEPT)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_committed_figure_says_what_its_numbers_say(path):
    """Oracle: the claims, judged again from the figure's own panels."""
    made = json.loads(path.read_text())
    assert path.stem == f"fig{made['figure']:02}"
    assert made["claims"] == judged(FIGURES[made["figure"]], made["preset"], made["panels"])


PICTURES = document.pictures(ROOT)


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_a_committed_picture_is_that_of_its_results(path, tmp_path):
    """At low resolution, since text differs a little between versions. The file must be small."""
    drawn = tmp_path / "drawn.png"
    style.save(PICTURES[path](), drawn, document.DPI, [".png"])
    grey = lambda path: np.asarray(Image.open(path).convert("L").resize((240, 160)), float)
    assert np.abs(grey(path) - grey(drawn)).mean() < 0.5
    assert path.stat().st_size <= 300_000


@pytest.mark.parametrize(
    "verdicts, words",
    [
        (["holds", "holds"], "2 hold"),
        (["undecided", "does not hold", "holds"], "1 holds, 1 undecided, 1 does not hold"),
        ([], "Drawn"),
    ],
)
def test_judgement(verdicts, words):
    assert document.judgement({"claims": [{"verdict": v} for v in verdicts]}) == words


def test_a_figure_that_was_not_run_is_marked(tmp_path):
    (tmp_path / "notes.json").write_text('{"8": "For want of time."}')
    assert "Not run. For want of time." in document.text(tmp_path)


def figure(folder, number, preset):
    folder.mkdir(exist_ok=True)
    (folder / f"fig{number:02}.json").write_text(json.dumps({"preset": preset}))


def test_figures_of_another_preset_are_not_replaced(tmp_path):
    made, kept = tmp_path / "made", tmp_path / "kept"
    figure(made, 3, "smoke")
    figure(made, 4, "smoke")
    figure(made, 5, "cpu")
    figure(kept, 4, "cpu")
    with pytest.raises(UserError, match=r"another preset than smoke: fig04 \(cpu\)"):
        document.keep(made, "smoke", kept)
    preset_of = lambda: {p.stem: json.loads(p.read_text())["preset"] for p in kept.iterdir()}
    assert preset_of() == {"fig04": "cpu"}

    document.keep(made, "cpu", kept)
    assert preset_of() == {"fig04": "cpu", "fig05": "cpu"}

    document.keep(made, "smoke", kept, replace=True)
    assert preset_of() == {"fig03": "smoke", "fig04": "smoke", "fig05": "cpu"}
    with pytest.raises(UserError, match="no figures of the preset paper"):
        document.keep(made, "paper", kept)


@pytest.mark.parametrize("arguments", [["figures"], ["--preset=cpu"]])
def test_a_folder_needs_its_preset(arguments, capsys):
    with pytest.raises(SystemExit):
        document.main(arguments)
    assert "give a folder and --preset, or neither" in capsys.readouterr().err
