"""What a checkpoint costs training: what the loop waits for, and what the writing takes from it."""

import contextlib
import tempfile
import time

import jax
import ml_collections
import numpy as np

from ad_jax.checkpoint import Checkpoints
from benchmarks import presets
from benchmarks.timing import interleave

# Presets, and changes to them. On a CPU a step of `large` with its own windows would take minutes,
# which would hide all other costs; with these it takes about as long as on an H100.
MODELS = {
    "dark_room:quickstart": {},
    "dark_key_to_door:large": {
        "model.context": 64, "train.batch_size": 4, "train.accumulate": 1, "model.dtype": "float32"
    },
}  # fmt: skip
SECONDS = 2.0  # of steps beside which a checkpoint is written


def run(rounds: int, models: dict[str, dict] | None = None) -> list[dict]:
    """For each model, the share of training time that checkpoints cost.

    The same steps are timed with a checkpoint before them and without one. The whole difference
    counts: the copy that the loop waits for, the cores that writing shares with the steps, and the
    rest of the writing if the steps end first.
    """
    return [_cost(preset, changes, rounds) for preset, changes in (models or MODELS).items()]


def _cost(preset: str, changes: dict, rounds: int) -> dict:
    config = presets.load(preset)
    config.update_from_flattened_dict(changes)
    box = {"step": 0}
    box["state"], advance = _training(config)

    def steps(number: int) -> None:
        for _ in range(number):
            box["state"], metrics = advance(box["state"])
        jax.block_until_ready(metrics)

    steps(2)
    began = time.perf_counter()
    steps(3)
    number = max(2, round(SECONDS / ((time.perf_counter() - began) / 3)))
    waited = []
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(Checkpoints(folder)) as checkpoints,
    ):

        def save_and_steps() -> None:
            began = time.perf_counter()
            box["step"] += 1
            checkpoints.save(box["step"], box["state"], {})
            waited.append(time.perf_counter() - began)
            steps(number)
            checkpoints.latest_step()  # until it is written

        seconds = interleave({"with": save_and_steps, "without": lambda: steps(number)}, rounds)
    of_one_step = float(np.median(seconds["without"])) / number
    extra = seconds["with"] - seconds["without"]
    between = of_one_step * config.train.checkpoint_every
    return {
        "stage": "checkpoints",
        "what": f"{preset}, every {config.train.checkpoint_every} steps",
        "state_mib": sum(x.nbytes for x in jax.tree.leaves(box["state"])) / 2**20,
        "step_ms": 1e3 * of_one_step,
        "waits_ms": 1e3 * float(np.median(waited[1:])),
        "costs_ms": 1e3 * float(np.median(extra)),
        "percent_of_training": 100 * float(np.median(extra)) / between,
        "percent_at_most": 100 * float(extra.max()) / between,
    }


def _training(config: ml_collections.ConfigDict):
    """See ``presets.started``."""
    model, init, update = presets.training(config)
    shapes = presets.batch_shapes(config, model)
    return presets.started(init, update, {k: np.zeros(x.shape, x.dtype) for k, x in shapes.items()})
