"""Writes docs/reproducing.md from the results kept in docs/figures, and draws its pictures.

    python -m experiments.figures.document [--preset=PRESET WORKDIR/figures]

With a folder, its figures of that preset are copied to docs/figures first. If one of them would
replace a figure of another preset, nothing is copied, unless --replace is given. The notes on the
figures are in docs/figures/notes.json.
"""

import argparse
import collections
import functools
import json
import math
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure as Picture

from ad_jax.errors import UserError
from experiments.figures import FIGURES
from experiments.figures.figure import DOES_NOT_HOLD, HOLDS, MIN_SEEDS, VERDICTS, at
from experiments.figures.runs import PRESETS
from experiments.pictures import curves, style

KEPT = pathlib.Path("docs/figures")
# Learning curves in docs/images, and the summaries that they show.
CURVES = {
    "dark_room": "docs/results/dark_room_quickstart.json",
    "dark_room_paper": "docs/results/dark_room_paper_h100.json",
    "dark_room_hard": "ad_jax/weights/dark_room_hard.json",
    "dark_key_to_door": "ad_jax/weights/dark_key_to_door.json",
    "watermaze": "docs/results/watermaze.json",
}
DPI = 110  # for pages: every version of a picture stays in the repository, so none is large
DOCUMENT = KEPT.parent / "reproducing.md"
CLAIMS = KEPT.parent / "results" / "claims.json"
PLURAL = {HOLDS: "hold", DOES_NOT_HOLD: "do not hold"}
_HEAD = """\
# The paper's figures, and ours

```sh
python -m experiments.reproduce --figure=4 --preset=cpu --workdir=runs/paper  # or 3,7, or all
```

plans the runs that a figure needs (AD, ED, RL², sources, prompts, sweeps), reports how many are
done and how long the others will take, as far as that is known, and runs them. It writes
`figures/figNN.json`, `.png` and `.pdf` into the workdir. The picture has the same panels as the
paper's figure, with the paper's values as open markers.

- Figures share histories, models and evaluations. After an interruption the same command goes on.
- `--preset` is `smoke` (a few steps, to see that everything runs), `cpu` or `paper` (the paper's
  sizes, for GPUs).
- `--list` says for each figure what it takes, and runs nothing.
- `--seeds=1` trains one model where the preset has three (`cpu`) or five (`paper`, in one program).
- `--shard=1/4` … `--shard=4/4` split the work over machines that share the workdir; the command
  without `--shard` then draws.

The table gives the result of each figure, its number of training seeds, and how long all of its
runs took, one after the other. The section of a figure names the preset and the devices. Where a
note says that other programs ran at the same time, the time is an upper bound.

"""
_WHAT_VALUES_ARE = """
This page is written by `python -m experiments.figures.document` from `docs/figures/*.json`: change
it there.

Values are means over held-out tasks. Their 95 % intervals treat training seeds, tasks and rollouts
as samples; with one seed an interval describes that model, not the method. The paper's values are
read off its curves, to about ± 0.02 of the axis. Training seeds share their histories.

For each training seed a claim has a margin: by how much it holds. A claim holds if the 95 %
interval of the mean margin lies above 0, and does not hold if it lies below 0. Otherwise, and with
fewer than three seeds, it is undecided ([all verdicts](results/claims.json)).

Figures with one seed are older than the validation tasks. They have the settings of the presets at
that time, which were chosen by looking at held-out tasks, and the bands of their curves cover
rollouts only.
"""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.figures.document")
    parser.add_argument(
        "folder", nargs="?", type=pathlib.Path, help="the folder figures of a workdir"
    )
    parser.add_argument("--preset", choices=PRESETS, help="preset of the figures to copy")
    parser.add_argument(
        "--replace", action="store_true", help="also replace figures of another preset"
    )
    options = parser.parse_args(arguments)
    if (options.folder is None) != (options.preset is None):
        parser.error("give a folder and --preset, or neither")
    if options.folder:
        try:
            keep(options.folder, options.preset, KEPT, options.replace)
        except UserError as error:
            sys.exit(f"error: {error}")
    for path, draw in pictures(pathlib.Path()).items():
        style.save(draw(), path, DPI, [path.suffix])
    DOCUMENT.write_text(text(KEPT))
    CLAIMS.write_text(json.dumps(claims(KEPT), indent=1) + "\n")
    print(DOCUMENT)
    print(CLAIMS)


def keep(folder: pathlib.Path, preset: str, kept: pathlib.Path, replace: bool = False) -> None:
    """Copies the figures of a preset.

    Args:
      folder: with figNN.json of a workdir.
      preset: whose figures are copied; those of another one in the folder are left there.
      kept: where they are copied to.
      replace: whether a figure of another preset may be replaced.

    Raises:
      UserError: the folder has no figure of the preset, or one would replace a figure of another
        preset. Then nothing is copied.
    """
    preset_of = lambda path: json.loads(path.read_text())["preset"]
    found = [path for path in sorted(folder.glob("fig*.json")) if preset_of(path) == preset]
    if not found:
        raise UserError(f"{folder} has no figures of the preset {preset}")
    others = {
        path.stem: preset_of(kept / path.name)
        for path in found
        if (kept / path.name).exists() and preset_of(kept / path.name) != preset
    }
    if others and not replace:
        names = ", ".join(f"{name} ({other})" for name, other in others.items())
        raise UserError(
            f"{kept} has figures of another preset than {preset}: {names}; --replace replaces them"
        )
    for path in found:
        shutil.copy(folder / path.name, kept / path.name)


def pictures(root: pathlib.Path) -> dict[pathlib.Path, Callable[[], Picture]]:
    """How to draw what can be drawn from results that are kept, by the path of the picture."""
    drawn = {}
    for path in sorted((root / KEPT).glob("fig*.json")):
        made = json.loads(path.read_text())
        draw = FIGURES[made["figure"]].draw
        drawn[path.with_suffix(".png")] = functools.partial(draw, made)
    for name, kept in CURVES.items():
        found = json.loads((root / kept).read_text())
        draw = functools.partial(curves.learning_curve, found.get("summary", found))
        drawn[root / "docs" / "images" / f"{name}_learning_curve.png"] = draw
    return drawn


def load(folder: pathlib.Path) -> dict[int, dict[str, Any]]:
    """The figures that are kept, by number."""
    paths = {number: folder / f"fig{number:02}.json" for number in FIGURES}
    return {n: json.loads(path.read_text()) for n, path in paths.items() if path.exists()}


def claims(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The verdicts on all claims."""
    return [
        {"figure": number, **claim, "preset": made["preset"]}
        for number, made in load(folder).items()
        for claim in made["claims"]
    ]


def text(folder: pathlib.Path) -> str:
    """The document."""
    notes = json.loads((folder / "notes.json").read_text())
    made = load(folder)
    everything = claims(folder)
    rows = ["| figure | result | seeds | minutes |", "|---|---|---|---|"]
    sections = []
    for number, figure in FIGURES.items():
        note = notes.get(str(number), "")
        if number in made:
            title, word = _line(made[number]["title"]), judgement(made[number])
            took, seeds = _minutes(made[number]["runs"]), made[number]["seeds"]
            rows.append(f"| {number}. {title} | {word} | {seeds} | {took} |")
            sections.append(_section(made[number], note))
        else:
            title = _line(figure.title)
            rows.append(f"| {number}. {title} | Not run. | | |")
            sections.append(f"## Figure {number}: {title}\n\nNot run. {note}".strip() + "\n")
    total = f"\nOf {len(everything)} claims: {counted(everything)}.\n"
    return "\n".join([_HEAD + "\n".join(rows), total, _WHAT_VALUES_ARE, *sections])


def judgement(made: Mapping[str, Any]) -> str:
    """How many of a figure's claims hold, are undecided, and do not hold."""
    return counted(made["claims"]) or "Drawn"


def counted(judged: Iterable[Mapping[str, Any]]) -> str:
    """How many claims have each verdict."""
    count = collections.Counter(claim["verdict"] for claim in judged)
    said = {word: word if count[word] == 1 else PLURAL.get(word, word) for word in VERDICTS}
    return ", ".join(f"{count[word]} {said[word]}" for word in VERDICTS if count[word])


def _section(made: Mapping[str, Any], note: str) -> str:
    number = made["figure"]
    lines = [
        f"## Figure {number}: {_line(made['title'])}\n",
        f"![Figure {number}](figures/fig{number:02}.png)\n",
    ]
    lines.append(f"**{judgement(made)}.** {note}\n")
    lines += map(_claim, made["claims"])
    rows = [row for panel in made["panels"] for row in _rows(panel)]
    if rows:
        lines += ["", "| what | ours (95 %) | the paper |", "|---|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    if made["runs"]:
        seeds = made["seeds"]
        lines += ["", f"Preset `{made['preset']}`, {seeds} training seed{'s' * (seeds > 1)}, "
                  f"jax {made['jax']}:", ""]  # fmt: skip
        lines += dict.fromkeys(_scale(name, run) for name, run in made["runs"].items())
    return "\n".join(lines) + "\n"


def _line(title: str) -> str:
    return " ".join(title.split())


def _claim(claim: Mapping[str, Any]) -> str:
    word = claim["verdict"]
    text = f"- {word if word == HOLDS else f'**{word}**'}: {claim['claim']}"
    if claim["seeds"] < MIN_SEEDS:
        return f"{text} (margin {claim['margin']:.2f}, {style.counted(claim['seeds'], 'seed')})"
    low, high = claim["ci95"]
    return f"{text} (margin {claim['margin']:.2f} [{low:.2f}, {high:.2f}])"


def _rows(panel: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(what, our mean, the paper's value)."""
    title = panel["title"]
    for curve in panel.get("curves", ()):
        name = f"{title}: {curve['name']}"
        end = curve["x"][-1]
        marks = {x: f"{paper:g}" for x, paper in curve["paper"] if x <= end}
        if "final" in curve:
            marks.setdefault(end, "")
        for x, paper in marks.items():
            value = f"{at(curve, x).mean():.2f}"
            if x == end and "final" in curve:
                name, value = f"{name}, last tenth,", _value(curve["final"])
            yield f"{name} after {x:,.0f} steps", value, paper
    for name, steps in panel.get("reached", {}).items():
        yield f"{title}: {name}, until 80 %", _reached(steps, panel["episode_steps"]), ""
    for level in panel.get("levels", ()):
        if level.get("paper") is not None:
            name = level.get("label", level["name"])
            yield f"{title}: {name}", f"{level['value']:.2f}", f"{level['paper']:g}"
    for series in panel.get("series", ()):
        for point in series["points"]:
            paper = "" if point["paper"] is None else f"{point['paper']:g}"
            yield f"{title}: {series['name']}, {point['x']}", _value(point["value"]), paper


def _reached(steps: Sequence[float | None], of_episode: int) -> str:
    known = [count for count in steps if count is not None]
    if missing := len(steps) - len(known):
        return f"not reached ({missing} of {len(steps)} seeds)"
    mean = sum(known) / len(known)
    return f"{mean:,.0f} steps, {mean / of_episode:,.1f} episodes"


def _value(found: Mapping[str, Any]) -> str:
    low, high = found["ci95"]
    return f"{found['mean']:.2f} [{low:.2f}, {high:.2f}]"


def _scale(name: str, run: Mapping[str, Any]) -> str:
    """A line on how large a run was."""
    times = [f"{part} {_seconds(run[part])}" for part in ("collect", "train", "evaluate")
             if part in run]  # fmt: skip
    what = f"- {name} ({run['environment']}): "
    if "updates" in run:
        what += (
            f"{run['training_tasks']} training and {run['heldout_tasks']} held-out tasks, "
            f"{run['updates']} updates of {run['method']} ({run['core']}, batch "
            f"{run['batch_size']}, context {run['context']}), {run['episodes']} episodes × "
            f"{run['rollouts']} rollouts; "
        )
    return f"{what}{', '.join(times)} on {run['device']}"


def _minutes(runs: Mapping[str, Any]) -> str:
    """How long all stages of these runs took together."""
    parts = [run.get(part, 0) for run in runs.values() for part in ("collect", "train", "evaluate")]
    minutes = sum(sum(part) if isinstance(part, list) else part for part in parts) / 60
    return f"{math.ceil(minutes)}" if minutes else ""


def _seconds(found: float | list[float]) -> str:
    values = found if isinstance(found, list) else [found]
    return "+".join(f"{value:.0f}" for value in values) + " s"


if __name__ == "__main__":
    main(sys.argv[1:])
