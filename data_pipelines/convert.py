"""Imports histories from other programs as a workdir to train on, and exports ours to files.

To import histories and train on them::

    python -m data_pipelines.convert --from=my_data.npz --workdir=runs/mine
    python -m experiments.run --config=runs/mine/config.json --workdir=runs/mine   # or ad-jax run

To export histories::

    python -m data_pipelines.convert --workdir=runs/quickstart --to=npz --out=exported

``data_pipelines/formats.py`` lists the formats and the names of the arrays. Several ``--from``
options are read one after the other. Steps keep their order, which must be the order of learning.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import ml_collections
import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from ad_jax.config import with_names
from ad_jax.envs.recorded import Recorded
from ad_jax.envs.spaces import MAX_VALUES
from ad_jax.errors import UserError
from ad_jax.interfaces import History
from ad_jax.paths import Path, as_path
from data_pipelines.files import write_text_atomically
from data_pipelines.formats import ENDS, LABELS, REQUIRED, Part, parts
from data_pipelines.reader import Histories
from data_pipelines.schema import FLAGS, Schema
from data_pipelines.writer import PROVENANCE, Writer

RECORD_STEPS = 256  # the most steps in a record
MAX_LEVELS = 64  # with more distinct rewards than this, rewards are stored as float32
TASKS_PER_SHARD = 64


class Stream(NamedTuple):
    """The history of one learner on one task: whole episodes.

    Attributes:
      task: a number from 0.
      stream: a number from 0, within the task.
      history: a History of NumPy arrays [time, ...].
    """

    task: int
    stream: int
    history: History


class Recording(NamedTuple):
    """All imported histories.

    Attributes:
      streams: the streams, sorted by task and stream.
      schema: how their steps are stored.
      task_names: the original name of each task, by task number.
      longest: length of the longest episode, in steps.
      dropped: number of steps left out because no episode end follows them in their stream.
      rounded: names of the arrays whose values were rounded to float32.
    """

    streams: list[Stream]
    schema: Schema
    task_names: list[Any]
    longest: int
    dropped: int
    rounded: list[str]


def record(given: Iterable[Part], num_actions: int | None = None, streams: int = 1) -> Recording:
    """Checks the given arrays, and sorts them by task and stream.

    Args:
      given: the parts, in the order of their tasks and steps.
      num_actions: number of actions, or of values of each action component; one more than the
        largest in the data if None.
      streams: the least number of streams that each task must have.

    Raises:
      UserError: arrays are missing or do not fit together, or values can't be stored.
    """
    rows: dict[tuple[Any, Any], list[dict[str, np.ndarray]]] = {}
    rounded: set[str] = set()
    shapes: dict[str, tuple[int, ...]] = {}
    for number, part in enumerate(given):
        arrays = _checked(part, rounded)
        for key in ("observations", "actions"):
            shape = arrays[key].shape[1:]
            if shapes.setdefault(key, shape) != shape:
                raise UserError(
                    f"{part.name}: {key} have shape {shape}, but earlier ones {shapes[key]}: give "
                    "all of them the same shape"
                )
        for label, chosen in _split(part, number):
            rows.setdefault(label, []).append({k: v[chosen] for k, v in arrays.items()})
    if not rows:
        raise UserError("the input holds no steps")

    names = _sorted({task for task, _ in rows})
    if len(names) < 2:
        raise UserError(
            f"all steps belong to one task ({names[0]!r}): learning in context takes several, so "
            "give an array 'task', or one file per task"
        )
    made, dropped, longest = [], 0, 0
    for task, name in enumerate(names):
        of_task = _sorted({stream for other, stream in rows if other == name})
        if len(of_task) < streams:
            raise UserError(
                f"task {name!r} has {len(of_task)} stream(s), fewer than --streams={streams}"
            )
        for stream, label in enumerate(of_task):
            blocks = rows[name, label]
            joined = {k: np.concatenate([b[k] for b in blocks]) for k in blocks[0]}
            history, lost = _history(joined, f"task {name!r}, stream {label!r}")
            starts = np.flatnonzero(np.append(history.is_first, True))
            longest, dropped = max(longest, int(np.diff(starts).max())), dropped + lost
            made.append(Stream(task, stream, history))
    schema = _schema(made, num_actions)
    return Recording(made, schema, names, longest, dropped, sorted(rounded))


def _checked(part: Part, rounded: set[str]) -> dict[str, np.ndarray]:
    """Checks the arrays of a part, and returns them in our dtypes, without the labels."""
    name, arrays = part
    missing = [key for key in REQUIRED if key not in arrays]
    if missing or not any(key in arrays for key in ENDS):
        missing = missing or [" or ".join(ENDS)]
        raise UserError(f"{name} lacks {', '.join(missing)}: it has {', '.join(sorted(arrays))}")
    steps = len(np.atleast_1d(arrays["actions"]))
    flat = {key: np.atleast_1d(arrays[key]) for key in (*REQUIRED, *ENDS) if key in arrays}
    for key, values in flat.items():
        if len(values) != steps:
            raise UserError(
                f"{name}: {key} have {len(values)} steps, but actions have {steps}: give one of "
                "each per step (the observation before the action, and none after the last)"
            )
    for key in ENDS:
        if key in flat and flat[key].dtype != bool and not np.isin(flat[key], (0, 1)).all():
            raise UserError(f"{name}: {key} are not true or false (0 or 1)")
    observations, actions, rewards = (flat[key] for key in REQUIRED)
    if actions.ndim > 2 or 0 in actions.shape[1:] or actions.dtype.kind not in "iu":
        raise UserError(
            f"{name}: actions are {actions.dtype} {list(actions.shape[1:])}: give a whole number, "
            "or a vector of them, for each step; discretize continuous actions"
        )
    if rewards.ndim != 1 or rewards.dtype.kind not in "biuf":
        raise UserError(
            f"{name}: rewards are {rewards.dtype} {list(rewards.shape[1:])}: give numbers"
        )
    if observations.dtype.kind not in "biuf":
        raise UserError(f"{name}: observations are {observations.dtype}: give numbers")
    return {
        "observations": _as_stored(name, "observations", observations, rounded),
        "actions": actions.astype(np.int64),
        "rewards": _as_stored(name, "rewards", rewards.astype(np.float64), rounded),
        "terminated": flat.get(ENDS[0], np.zeros(steps)).astype(bool),
        "truncated": flat.get(ENDS[1], np.zeros(steps)).astype(bool),
    }


def _as_stored(name: str, key: str, values: np.ndarray, rounded: set[str]) -> np.ndarray:
    """Floats as float32, whole numbers as int32, pictures as uint8."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            step = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))[0])
            raise UserError(f"{name}: {key} are NaN or infinite at step {step}")
        with np.errstate(over="ignore"):
            single = values.astype(np.float32)
        if not np.isfinite(single).all():
            raise UserError(f"{name}: {key} are too large for float32: {np.abs(values).max()}")
        if not np.array_equal(single, values):
            rounded.add(key)
        return single
    if values.dtype == np.uint8 and values.ndim == 4:
        return values
    if values.size and (values.min() < -(2**31) or values.max() >= 2**31):
        raise UserError(f"{name}: {key} reach {values.max()}: whole numbers must fit into int32")
    return values.astype(np.int32)


def _split(part: Part, number: int) -> Iterator[tuple[tuple[Any, Any], Any]]:
    """Yields ((task, stream), step indices) of a part; one without labels is a task of its own."""
    steps = len(np.atleast_1d(part.arrays["actions"]))
    names, codes = [], []
    for key, usual in zip(LABELS, (number, 0), strict=True):
        values = np.asarray(part.arrays.get(key, usual))
        if values.ndim == 0:
            values = np.broadcast_to(values, steps)
        if values.shape != (steps,):
            raise UserError(
                f"{part.name}: {key} has shape {values.shape}: give ({steps},) or a single value"
            )
        found, code = np.unique(values, return_inverse=True)
        names.append([v.decode() if isinstance(v, bytes) else v for v in found.tolist()])
        codes.append(code)
    code = codes[0] * len(names[1]) + codes[1]
    order = np.argsort(code, kind="stable")  # steps of a stream stay in their order
    for chosen in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
        if len(chosen):
            task, stream = divmod(int(code[chosen[0]]), len(names[1]))
            yield (names[0][task], names[1][stream]), chosen


def _sorted(labels: set) -> list:
    numbers = all(isinstance(label, int | float) for label in labels)
    return sorted(labels) if numbers else sorted(labels, key=str)


def _history(arrays: dict[str, np.ndarray], name: str) -> tuple[History, int]:
    """The whole episodes of a stream, and how many steps come after them."""
    is_last = arrays["terminated"] | arrays["truncated"]
    ends = np.flatnonzero(is_last)
    if not len(ends):
        raise UserError(
            f"{name}: no episode ends: set terminations or truncations at the last step of each"
        )
    whole = slice(0, ends[-1] + 1)
    history = History(
        observation=arrays["observations"][whole],
        action=arrays["actions"][whole],
        reward=arrays["rewards"][whole],
        is_first=np.append(True, is_last[whole][:-1]),
        is_last=is_last[whole],
        is_terminal=arrays["terminated"][whole],
    )
    return history, len(is_last) - int(ends[-1]) - 1


def _schema(streams: Sequence[Stream], num_actions: int | None) -> Schema:
    histories = [s.history for s in streams]
    low, high = min(h.action.min() for h in histories), max(h.action.max() for h in histories)
    largest = np.max([h.action.max(0) for h in histories], 0)
    most = largest + 1 if num_actions is None else np.full_like(largest, num_actions)
    number = int(most.max())
    if low < 0 or high >= number or number > 256:
        raise UserError(
            f"actions go from {low} to {high}: give 0 to {min(number, 256) - 1}, and at most 256"
        )
    first = histories[0].observation
    shape = first.shape[1:]
    bottom = sizes = None
    if first.dtype == np.int32:
        flat = [h.observation.reshape(len(h.action), -1) for h in histories]
        bottom = np.min([f.min(0) for f in flat], 0).astype(np.int64)
        sizes = np.max([f.max(0) for f in flat], 0) - bottom + 1
        if sizes.max(initial=1) > MAX_VALUES:
            raise UserError(
                f"observations are whole numbers of up to {sizes.max()} values: give floats, or at "
                f"most {MAX_VALUES} values a component"
            )
    levels = np.unique(np.concatenate([np.unique(h.reward) for h in histories]))
    return Schema(
        observation_shape=tuple(shape),
        observation_low=None if bottom is None else tuple(bottom.tolist()),
        observation_sizes=None if sizes is None else tuple(sizes.tolist()),
        num_actions=number,
        action_sizes=tuple(most.tolist()) if most.ndim else None,
        reward_levels=tuple(levels.tolist()) if len(levels) <= MAX_LEVELS else None,
        record_steps=min(RECORD_STEPS, max(len(h.action) for h in histories)),
        raw_dtype=str(first.dtype) if bottom is None else "float32",
    )


def config_of(recording: Recording) -> ml_collections.ConfigDict:
    """A config for these histories: the defaults, with their spaces and a split of their tasks."""
    schema, tasks = recording.schema, len(recording.task_names)
    config = with_names({"env.name": f"{Recorded.__module__}:{Recorded.__name__}"})
    config.preset = "recorded"
    config.env.kwargs = {
        "shape": schema.observation_shape,
        "low": schema.observation_low,
        "sizes": schema.observation_sizes,
        "pictures": schema.raw_dtype == "uint8",
        "num_actions": schema.num_actions,
        "action_sizes": schema.action_sizes,
        "num_tasks": tasks,
        "max_steps_in_episode": recording.longest,
    }
    config.tasks.num_heldout = max(1, tasks // 5)
    config.tasks.num_validation = tasks // 10
    shortest = min(len(s.history.action) for s in recording.streams)
    config.model.context = min(config.model.context, shortest)
    return config


def store(recording: Recording, folder: Path, config: ml_collections.ConfigDict) -> None:
    """Writes the histories of a workdir.

    Args:
      recording: what is written.
      folder: the workdir's "histories".
      config: of the workdir.
    """
    began = time.perf_counter()
    by_task = [list(s) for _, s in itertools.groupby(recording.streams, key=lambda s: s.task)]
    shards = [by_task[i : i + TASKS_PER_SHARD] for i in range(0, len(by_task), TASKS_PER_SHARD)]
    writer = Writer(folder, recording.schema, len(shards))
    for number in writer.missing():
        tasks = np.array([streams[0].task for streams in shards[number]])
        with writer.shard(number, tasks) as shard:
            for stream in itertools.chain.from_iterable(shards[number]):
                shard.write_history(stream.task, stream.stream, stream.history)
    returns = [_returns(s.history) for s in recording.streams]
    episodes = min(map(len, returns))
    writer.commit(
        {
            "config": config.to_dict(),
            "environment": {"name": Recorded.__name__, "version": Recorded.version},
            "task_names": recording.task_names,
            "lengths": [[s.task, s.stream, len(s.history.action)] for s in recording.streams],
            "seconds": time.perf_counter() - began,
            "env_steps": sum(len(s.history.action) for s in recording.streams),
            "mean_return_by_episode": np.mean([r[:episodes] for r in returns], 0).tolist(),
        }
    )


def _returns(history: History) -> np.ndarray:
    starts = np.flatnonzero(history.is_first)
    return np.add.reduceat(history.reward.astype(np.float64), starts)


def bring_in(
    sources: Sequence[str], workdir: str, num_actions: int | None = None, streams: int = 1
) -> Recording:
    """Creates a workdir from files, and returns the imported histories.

    Raises:
      UserError: the files can't be used, or the workdir already holds histories.
    """
    folder = as_path(workdir)
    if (folder / "histories" / PROVENANCE).exists():
        raise UserError(f"{folder} holds histories already: give another --workdir")
    given = []
    for source in sources:
        path = as_path(source)
        if not path.exists():
            raise UserError(f"--from={source}: there is no such file or folder")
        given.append(parts(path))
    recording = record(itertools.chain.from_iterable(given), num_actions, streams)
    config = config_of(recording)
    store(recording, folder / "histories", config)
    write_text_atomically(folder / "config.json", json.dumps(config.to_dict(), indent=1))
    return recording


def to_numpy(histories: Histories) -> Iterator[dict[str, Any]]:
    """Each row of a data set, as plain arrays with the names of ``formats``.

    Yields:
      observations int32, float32 or uint8 ``[time, *shape]``, actions int32 ``[time, *shape]``,
      rewards float32 [time], terminations and truncations bool [time], and the numbers task and
      stream.
    """
    schema = histories.schema
    for row, (task, stream) in enumerate(zip(histories.task, histories.stream, strict=True)):
        steps = np.arange(histories.lengths[row])
        found = histories.read(np.full(len(steps), row), steps)
        rewards = found["reward"]
        if schema.reward_levels is not None:
            rewards = np.array(schema.reward_levels, np.float32)[rewards]
        yield {
            "observations": np.asarray(schema.decode_observation(found["observation"])),
            "actions": found["action"].astype(np.int32),
            "rewards": rewards,
            "terminations": found["is_terminal"],
            "truncations": found["is_last"] & ~found["is_terminal"],
            "task": int(task),
            "stream": int(stream),
        }


def to_npz(histories: Histories, folder: Path) -> None:
    """A file for each task and stream."""
    for row in to_numpy(histories):
        path = folder / f"task{row['task']:010}_stream{row['stream']:05}.npz"
        with path.open("wb") as file:
            np.savez_compressed(file, **row)


def to_rlds(histories: Histories, folder: Path) -> None:
    """A TFDS data set of episodes of ``steps``, with the names of RLDS, in the order of learning.

    The step with is_last holds the last action and its reward (``last_step_has_action``). The
    observation after it is not stored.
    """
    schema, name, split = histories.schema, "histories", "train"
    tensor = tfds.features.Tensor
    seen = np.int32 if schema.observation_sizes is not None else np.dtype(schema.raw_dtype)
    flags = {flag: tensor(shape=(), dtype=np.bool_) for flag in FLAGS}
    features = tfds.features.FeaturesDict(
        {
            "steps": tfds.features.Dataset(
                {
                    "observation": tensor(shape=schema.observation_shape, dtype=seen),
                    "action": tensor(shape=schema.actions.shape, dtype=np.int32),
                    "reward": tensor(shape=(), dtype=np.float32),
                    **flags,
                }
            ),
            "task": tensor(shape=(), dtype=np.int32),
            "stream": tensor(shape=(), dtype=np.int32),
            "last_step_has_action": tensor(shape=(), dtype=np.bool_),
        }
    )
    serializer = ExampleSerializer(features.get_serialized_info())
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=name, split=split, filetype_suffix="array_record"
    )
    path = folder / f"{name}-{split}.array_record-00000-of-00001"
    writer, episodes = ArrayRecordWriter(str(path), "group_size:1"), 0
    try:
        for row in to_numpy(histories):
            last = row["terminations"] | row["truncations"]
            ends = np.flatnonzero(last) + 1
            if len(last) not in ends:  # an episode that the source had not finished
                ends = np.append(ends, len(last))
            for begin, end in itertools.pairwise([0, *ends.tolist()]):
                steps = [
                    {
                        "observation": row["observations"][t],
                        "action": row["actions"][t],
                        "reward": row["rewards"][t],
                        "is_first": t == begin,
                        "is_last": bool(last[t]),
                        "is_terminal": bool(row["terminations"][t]),
                    }
                    for t in range(begin, end)
                ]
                labels = {k: row[k] for k in LABELS}
                example = {"steps": steps, **labels, "last_step_has_action": True}
                writer.write(serializer.serialize_example(features.encode_example(example)))
                episodes += 1
    finally:
        writer.close()
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features, version="1.0.0", check_data=False,
        description="Learning histories, episode by episode.",
        split_infos=[
            tfds.core.SplitInfo(
                name=split, shard_lengths=[episodes], num_bytes=path.stat().st_size,
                filename_template=template,
            )
        ],
    )  # fmt: skip


OUT = {"npz": to_npz, "rlds": to_rlds}


def take_out(workdir: str, kind: str, folder: str) -> Path:
    """Writes the histories of a workdir in another format; returns the folder.

    Raises:
      UserError: there are none, the format is unknown, or the folder is not empty.
    """
    if kind not in OUT:
        raise UserError(f"--to={kind}: choose one of {', '.join(OUT)}")
    out = as_path(folder)
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise UserError(f"--out={folder} is not empty: give another folder")
    OUT[kind](Histories(as_path(workdir) / "histories"), out)
    return out


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m data_pipelines.convert")
    parser.add_argument("--workdir", required=True, help="folder to create, or to read with --to")
    parser.add_argument(
        "--from", dest="sources", action="append", default=[], help="file or folder to import"
    )
    parser.add_argument(
        "--num_actions", type=int, help="actions, or values of each component; else as in the data"
    )
    parser.add_argument("--streams", type=int, default=1, help="minimum number of streams per task")
    parser.add_argument("--to", help=f"format to export to, instead of --from: {', '.join(OUT)}")
    parser.add_argument("--out", help="folder to export to, with --to")
    options = parser.parse_args(arguments)
    if bool(options.sources) == bool(options.to) or bool(options.to) != bool(options.out):
        raise UserError(
            "give --from=FILE to import histories, or --to=FORMAT --out=FOLDER to export them"
        )
    if options.to:
        print(take_out(options.workdir, options.to, options.out))
        return
    made = bring_in(options.sources, options.workdir, options.num_actions, options.streams)
    steps = sum(len(s.history.action) for s in made.streams)
    print(f"{steps:,} steps of {len(made.task_names)} tasks in {len(made.streams)} streams")
    if made.dropped:
        print(f"left out: {made.dropped:,} steps after the last episode end of their stream")
    for name in made.rounded:
        print(f"rounded: {name} were float64, and are stored as float32")
    print(f"next: ad-jax run --config={options.workdir}/config.json --workdir={options.workdir}")


def entry_point() -> None:
    """Runs ``main``; reports an error that the user can fix in one line."""
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    entry_point()
