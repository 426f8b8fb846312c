"""Figures 7, 8, 10, 12 and 13: settings of AD, varied one at a time."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ad_jax.distributed import processes
from ad_jax.evaluation.statistics import last_tenth
from experiments.figures import presets
from experiments.figures.fig04_main import bounds_of
from experiments.figures.figure import Figure, Panels, least
from experiments.figures.panels import RETURN, point
from experiments.figures.runs import Results

HARD = "dark_room_hard"


def sweep(
    title: str,
    environment: str,
    settings: Mapping[str, tuple[str, str, str, Mapping[str, float]]],
    chosen: Mapping[str, Mapping[str, tuple]],
    claims: Mapping[str, Callable[[Panels], np.ndarray]],
    also: Callable[[Any, str, Any], Mapping[str, Any]] = lambda config, key, value: {},
) -> Figure:
    """A figure of settings that vary one at a time; values are of the last tenth of the episodes.

    Args:
      title: what varies.
      environment: on whose held-out tasks it is judged.
      settings: a panel for each, by a short name: (key of the config, label of the axis, its
        scale, the paper's values).
      chosen: for each preset, the values of each axis.
      claims: of the figure.
      also: ``also(config, key, value)``, further settings that depend on the value.
    """

    def runs(preset: str):
        base = presets.ad(environment, preset).config
        return {
            f"{axis} {value}": presets.ad(
                environment, preset, {key: value, **also(base, key, value)}
            )
            for axis, (key, *_) in settings.items()
            for value in chosen[preset][axis]
        }

    def panels(results: Mapping[str, Results]) -> list[dict[str, Any]]:
        made = []
        for axis, (_, label, scale, paper) in settings.items():
            points = [
                {
                    "x": name.removeprefix(f"{axis} "),
                    "value": point(last_tenth(found.of_group()).mean(-1)),
                    "training tasks": point(last_tenth(found.of_group("train")).mean(-1)),
                    "paper": paper.get(name.removeprefix(f"{axis} ")),
                }
                for name, found in results.items()
                if name.startswith(f"{axis} ")
            ]
            made.append({
                "kind": "points", "title": f"{TITLES[environment]}: {axis}", "xlabel": label,
                "xscale": scale, "ylabel": RETURN, "series": [{"name": "AD", "points": points}],
                "levels": bounds_of(next(iter(results.values()))),
            })  # fmt: skip
        return made

    return Figure(title, runs, panels, claims)


TITLES = {presets.KEY_TO_DOOR: "Dark Key-to-Door", HARD: "Dark Room Hard"}


def named(values: Mapping[Any, float]) -> dict[str, float]:
    """The paper's values by the name of the setting."""
    return {str(key): value for key, value in values.items()}


def value(found: Panels, x: Any, panel: int = 0) -> np.ndarray:
    """The return with the value ``x`` of a panel's setting, float [seed]."""
    points = found[panel]["series"][0]["points"]
    return next(np.array(p["value"]["by_seed"]) for p in points if p["x"] == str(x))


def _longest(found: Panels) -> np.ndarray:
    """The return with the longest context is 1.5 times that with any below two episodes."""
    lengths = [int(p["x"]) for p in found[0]["series"][0]["points"]]
    longest = value(found, lengths[-1])
    return least(*(longest - 1.5 * value(found, x) for x in lengths if x < 100))


def same_tokens(config: Any, key: str, context: int) -> dict[str, Any]:
    """A batch size with about as many transitions as the config's, for another context."""
    size = config.train.batch_size * config.model.context // context
    shared = config.train.accumulate * processes.MAX_CPU_DEVICES
    return {"train.batch_size": max(size - size % shared, shared)}


CONTEXT_LENGTH = sweep(
    "How many episodes a context has to span (an episode has 50 steps)",
    presets.KEY_TO_DOOR,
    {
        "context": ("model.context", "length of the context (steps of the environment)", "log",
                    named({20: .54, 30: .64, 40: .88, 50: 1.13, 100: 1.76, 200: 1.84})),
    },
    {
        "smoke": {"context": (8, 16)},
        "cpu": {"context": (20, 30, 40, 50, 100, 200)},
        "paper": {"context": (20, 30, 40, 50, 100, 200)},
    },
    {"a context has to span at least two episodes: the return with the longest is at least 1.5 "
     "times that with any shorter than two episodes": _longest},
    same_tokens,
)  # fmt: skip

_WIDTHS = {16: 1.01, 32: 1.82, 64: 1.90, 128: 1.89, 256: 1.93}
_LAYERS = {2: 1.61, 4: 1.89, 6: 1.93, 8: 1.92, 10: 1.91}
_HEADS = {1: 1.70, 2: 1.85, 4: 1.91, 8: 1.92}
_SIZES = {"width": tuple(_WIDTHS), "layers": tuple(_LAYERS), "heads": tuple(_HEADS)}
MODEL_SIZE = sweep(
    "How large the model has to be",
    presets.KEY_TO_DOOR,
    {
        "width": ("model.width", "width (units)", "log", named(_WIDTHS)),
        "layers": ("model.num_layers", "layers", "linear", named(_LAYERS)),
        "heads": ("model.num_heads", "heads in each layer", "log", named(_HEADS)),
    },
    {
        "smoke": {"width": (8, 16), "layers": (1, 2), "heads": (1, 2)},
        "cpu": {**_SIZES, "width": (16, 32, 64, 128)},
        "paper": _SIZES,
    },
    {"a width of 16 is too small: the return with 64 is at least 1.25 times as high": (
        lambda found: value(found, 64) - 1.25 * value(found, 16))},
)  # fmt: skip

_SMOOTHING = {0.0: 0.25, 0.1: 0.36, 0.2: 0.68, 0.3: 0.59}
LABEL_SMOOTHING = sweep(
    "Label smoothing",
    HARD,
    {
        "label smoothing": (
            "train.label_smoothing",
            "label smoothing (probability)",
            "linear",
            named(_SMOOTHING),
        )
    },
    {
        "smoke": {"label smoothing": (0.0, 0.2)},
        "cpu": {"label smoothing": tuple(_SMOOTHING)},
        "paper": {"label smoothing": tuple(_SMOOTHING)},
    },
    {
        "label smoothing of 0.2 is better than none": lambda found: (
            value(found, 0.2) - value(found, 0.0)
        )
    },
)

_TASKS = {1: .44, 9: .50, 18: .52, 37: .71, 75: .84, 151: .95, 303: 1.31, 606: 1.64,
          1212: 1.87, 2424: 1.89}  # fmt: skip
TRAINING_TASKS = sweep(
    "How many training tasks are needed",
    presets.KEY_TO_DOOR,
    {"training tasks": ("tasks.num_train", "number of training tasks", "log", named(_TASKS))},
    {
        "smoke": {"training tasks": (2, 40)},
        "cpu": {"training tasks": (1, 9, 37, 151, 512)},
        "paper": {"training tasks": tuple(_TASKS)},
    },
    {"more training tasks help: the return with 151 is at least a third higher than with 9": (
        lambda found: value(found, 151) - 4 / 3 * value(found, 9))},
)  # fmt: skip

_MASKS = {0.1: 1.80, 0.3: 1.87, 0.5: 1.86, 0.7: 1.43, 0.9: 0.20}
INPUT_MASK = sweep(
    "Masking input tokens during training",
    presets.KEY_TO_DOOR,
    {"mask probability": ("model.mask_probability", "probability that an input token is masked",
                          "linear", named(_MASKS))},
    {
        "smoke": {"mask probability": (0.3, 0.9)},
        "cpu": {"mask probability": tuple(_MASKS)},
        "paper": {"mask probability": tuple(_MASKS)},
    },
    {"0.3 and 0.5 are both better than 0.9, which masks too much": lambda found: (
        least(value(found, 0.3), value(found, 0.5)) - value(found, 0.9)),
     "0.3 and 0.5 do no harm: the return with each is at least 0.95 of that with 0.1": (
        lambda found: least(value(found, 0.3), value(found, 0.5)) - 0.95 * value(found, 0.1))},
    lambda config, key, probability: {"model.mask": "token"},
)  # fmt: skip
