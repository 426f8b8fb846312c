"""The contents of a finished run, without times, and the differences between two runs."""

import json
import pathlib
import zlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments.page.html import data_of

# Wall-clock times, checksums of documents that contain them, and the program's commit.
_OF_TIME = {
    "seconds", "throughput", "transitions_per_s", "train_seconds", "train_transitions_per_s",
    "checksum", "commit",
}  # fmt: skip


def contents(workdir: pathlib.Path) -> dict[str, Any]:
    """The whole output of a finished run except its TensorBoard log, by name.

    Files are represented by their checksum, arrays by their shape, dtype and checksum. Only the
    last checkpoint counts: which others are kept depends on where a run was stopped.
    """
    found: dict[str, Any] = {}
    for path in (p for p in sorted(workdir.glob("histories/*")) if p.is_file()):
        name = f"histories/{path.name}"
        found[name] = _json(path) if path.suffix == ".json" else zlib.crc32(path.read_bytes())
    for number, line in enumerate((workdir / "metrics.jsonl").read_text().splitlines()):
        found[f"metrics/{number}"] = _timeless(json.loads(line))
    last = max(int(p.name) for p in workdir.glob("checkpoints/*") if p.name.isdigit())
    folder = workdir / "checkpoints" / str(last)
    for path, array in jax.tree_util.tree_leaves_with_path(_state(folder / "state")):
        found[f"checkpoints/{last}{jax.tree_util.keystr(path)}"] = _array(array)
    found[f"checkpoints/{last}/metadata"] = _json(folder / "metadata" / "metadata")
    with np.load(workdir / "evaluation" / "rollouts.npz") as results:
        for name in set(results) - _OF_TIME:
            found[f"evaluation/{name}"] = _array(results[name])
    for path in sorted((workdir / "report").iterdir()):
        name = f"report/{path.name}"
        if path.suffix == ".html":
            found[name] = _timeless(data_of(path.read_text(encoding="utf-8")))
        else:
            found[name] = _json(path) if path.suffix == ".json" else zlib.crc32(path.read_bytes())
    temporary = [p for p in workdir.rglob("*tmp*") if "tensorboard" not in p.parts]
    found["temporary files"] = sorted(str(p.relative_to(workdir)) for p in temporary)
    return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what is not the same in two runs."""
    names = one.keys() | other.keys()
    return sorted(name for name in names if one.get(name) != other.get(name))


def _array(value: Any) -> list:
    array = np.asarray(value)
    return [list(array.shape), str(array.dtype), zlib.crc32(np.ascontiguousarray(array).tobytes())]


def _json(path: pathlib.Path) -> Any:
    return _timeless(json.loads(path.read_text()))


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in _OF_TIME}
    return list(map(_timeless, value)) if isinstance(value, list) else value


def _state(folder: pathlib.Path) -> Any:
    """Parameters and the optimizer's state as numpy arrays, on whatever devices they were."""
    reader = ocp.PyTreeCheckpointer()
    tree = reader.metadata(folder).item_metadata.tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    return reader.restore(folder, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
