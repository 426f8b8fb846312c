import time

import numpy as np
import pytest

from experiments.pictures import curves, style

SUMMARY = {
    "environment": "DarkRoom", "preset": "cpu", "reference": "optimal return", "episodes": 4,
    "unit": "return / optimal return",
    "rollouts_per_task": 8, "seeds": [0, 1], "intervals_over": style.sampled(2),
    "groups": ["heldout", "train"],
    **{name: {"final": 0.5, "tasks": 3, "normalized": [0.1, 0.2, 0.3, 0.5],
              "ci95": [[0.0, 0.2], [0.1, 0.3], [0.2, 0.4], [0.4, 0.6]], "random_normalized": 0.1}
       for name in ("heldout", "train")},
}  # fmt: skip


def words(figure):
    """All text below the panels."""
    return " ".join(text.get_text().replace("\n", " ") for text in figure.texts)


def test_lines_differ_in_more_than_colour():
    for key in ("color", "ls", "marker"):
        assert len({line[key] for line in style.LINES}) == len(style.LINES), key
    assert len(set(style.HATCHES)) == len(style.LINES)
    assert style.number("ED") == style.OF_NAME["ED"]
    assert style.number("mine", len(style.LINES) + 3) == 3


def test_colours_stay_apart_for_who_sees_no_red_or_no_green():
    """Deuteranopia and protanopia, as Viénot et al. 1999 simulate them in linear RGB."""
    hexes = [line["color"] for line in style.LINES]
    srgb = np.array([[int(h[i : i + 2], 16) for i in (1, 3, 5)] for h in hexes]) / 255
    linear = np.where(srgb > 0.04045, ((srgb + 0.055) / 1.055) ** 2.4, srgb / 12.92)
    for seen in (
        [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
        [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    ):
        colours = (linear @ np.array(seen).T).clip(0, 1) ** (1 / 2.2)
        apart = np.linalg.norm(colours[:, None] - colours, axis=-1)
        assert apart[np.triu_indices(6, 1)].min() > 0.1  # the six that methods and groups have


def test_a_picture_says_what_its_lines_and_bands_are():
    text = words(curves.learning_curve(SUMMARY))
    for part in (
        "8 rollouts of each task by each model (2 training seeds)",
        "95 % interval over training seeds, tasks and rollouts",
        "Preset cpu",
    ):
        assert part in text
    assert style.SMOKE not in text


def test_a_smoke_preset_is_stamped_across():
    assert style.SMOKE in words(curves.learning_curve({**SUMMARY, "preset": "smoke"}))


@pytest.mark.parametrize("width", [4.0, 12.0])
def test_the_words_are_below_the_panels_and_inside_of_the_figure(width):
    figure, [[axes]] = style.panels(1, 1, (width, 3.0))
    for name in ("one method", "another, which has a long name", "a third"):
        axes.plot([0, 1], [0, 1], label=name)
    axes.set_xlabel("steps")
    style.explain(figure, "What a reader has to know. " * 6, "cpu", style.named(axes))
    figure.draw_without_rendering()
    box = figure.texts[0].get_window_extent()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0 and legend.x1 <= figure.bbox.width
    assert box.y1 <= legend.y0 + 2 and legend.y1 <= axes.get_tightbbox().y0 + 2


def test_the_same_picture_has_the_same_bytes_whenever_it_is_saved(tmp_path):
    saved = []
    for name in "ab":
        time.sleep(1.1 * len(saved))  # a PDF's dates count seconds
        names = style.save(curves.learning_curve(SUMMARY), tmp_path / f"{name}.png")
        assert names == [f"{name}.png", f"{name}.pdf"]
        saved.append([(tmp_path / n).read_bytes() for n in names])
    assert saved[0] == saved[1] and saved[0][1].startswith(b"%PDF")
