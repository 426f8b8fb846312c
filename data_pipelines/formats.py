"""Reads histories stored by other programs, as flat arrays: NumPy, HDF5, Minari, RLDS.

An array has one entry for each step, in the order in which the steps were taken. Its name may be
that of Gymnasium or that of RLDS:

    observations   the observation before the action
    actions        integers from 0, or a vector of them for each step
    rewards        the reward after the action
    terminations   the episode ended with this step, in a terminal state
    truncations    it ended for another reason, such as a step limit (one of the two is enough)
    task           which task the step belongs to (optional: each file or group is one task)
    stream         which learner of that task (optional: all steps of a task are one stream)

``task`` and ``stream`` may also be a single value for all steps of a file or group.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ad_jax.errors import UserError
from ad_jax.paths import Path

REQUIRED = ("observations", "actions", "rewards")
ENDS = ("terminations", "truncations")
LABELS = ("task", "stream")
# Other accepted names of the arrays.
ALIASES = {
    "observation": "observations", "action": "actions", "reward": "rewards",
    "terminals": "terminations", "terminated": "terminations", "timeouts": "truncations",
    "truncated": "truncations",
}  # fmt: skip


class Part(NamedTuple):
    """Arrays that were stored together.

    Attributes:
      name: the file or group that they are from, for error messages.
      arrays: the arrays by the names above.
    """

    name: str
    arrays: dict[str, np.ndarray]


def parts(path: Path) -> Iterator[Part]:
    """Yields everything that is stored in a file or a folder, in the order of the names.

    Raises:
      UserError: the format is unknown, or the file can't be read.
    """
    for name, (suits, read) in FORMATS.items():
        if suits(path):
            try:
                yield from read(path)
            except (UserError, MemoryError):
                raise
            except Exception as error:  # each library has errors of its own
                text = " ".join(f"{type(error).__name__}: {error}".split())
                raise UserError(f"{path} can't be read as {name} ({text})") from error
            return
    raise UserError(f"{path} is in none of the known formats: give {', '.join(FORMATS)}")


def _named(name: str, arrays: dict[str, Any]) -> Part:
    known = {ALIASES.get(key, key): np.asarray(value) for key, value in arrays.items()}
    return Part(name, {k: v for k, v in known.items() if k in (*REQUIRED, *ENDS, *LABELS)})


def _npz(path: Path) -> Iterator[Part]:
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    for file in files:
        with file.open("rb") as opened, np.load(opened) as arrays:
            yield _named(str(file), dict(arrays))


def _hdf5(path: Path) -> Iterator[Part]:
    import h5py

    with h5py.File(path, "r") as file:
        groups = (
            [file] if any(isinstance(v, h5py.Dataset) for v in file.values()) else file.values()
        )
        for group in groups:
            arrays = {k: v[()] for k, v in group.items() if isinstance(v, h5py.Dataset)}
            attributes = {k: v for k, v in group.attrs.items() if k in LABELS}
            yield _named(f"{path}{group.name}", {**attributes, **arrays})


def _minari(path: Path) -> Iterator[Part]:
    """A data set is one stream of one task: its episodes, in their order."""
    import minari

    dataset = minari.MinariDataset(path if path.name == "data" else path / "data")
    rows: dict[str, list[np.ndarray]] = {name: [] for name in (*REQUIRED, *ENDS)}
    for episode in dataset.iterate_episodes():
        for name, row in rows.items():
            row.append(np.asarray(getattr(episode, name))[: len(episode.rewards)])
    yield Part(str(path), {name: np.concatenate(row) for name, row in rows.items()})


def _rlds(path: Path) -> Iterator[Part]:
    """Yields the episodes of every split.

    In RLDS the last step of an episode has only an observation. It is left out, and the episode
    ends with the step before, unless ``last_step_has_action`` is set, as in files that
    ``convert.to_rlds`` writes.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(path)
    for split in sorted(builder.info.splits):
        for number, episode in enumerate(builder.as_data_source(split=split)):
            steps = list(episode["steps"])
            ended = bool(steps[-1].get("is_last", True)) if steps else False
            terminal = bool(steps[-1].get("is_terminal", False)) if steps else False
            if ended and not episode.get("last_step_has_action", False):
                steps = steps[:-1]
            if not steps:
                continue
            last = np.arange(len(steps)) == len(steps) - 1
            arrays = {
                name: np.array([step[name] for step in steps])
                for name in ("observation", "action", "reward")
            }
            labels = {name: episode[name] for name in LABELS if name in episode}
            yield _named(
                f"{path}, episode {number} of split {split}",
                {
                    **arrays,
                    "terminations": last & ended & terminal,
                    "truncations": last & ended & (not terminal),
                    "task": 0,
                    **labels,
                },
            )


FORMATS: dict[str, tuple[Callable[[Path], bool], Callable[[Path], Iterator[Part]]]] = {
    "npz (a file, or a folder of them)": (
        lambda p: p.suffix == ".npz" or (p.is_dir() and any(p.glob("*.npz"))),
        _npz,
    ),
    "HDF5": (lambda p: p.is_file() and p.suffix in (".h5", ".hdf5"), _hdf5),
    "RLDS (a folder of TFDS)": (lambda p: (p / "dataset_info.json").exists(), _rlds),
    "Minari (the folder of a data set)": (
        lambda p: (p / "data" / "metadata.json").exists() or (p / "metadata.json").exists(),
        _minari,
    ),
}
