"""Other programs' histories are imported unchanged or refused; ours are exported unchanged."""

import json

import gymnasium
import numpy as np
import pytest
import tensorflow_datasets as tfds

from ad_jax import build
from ad_jax.actions import Actions
from ad_jax.errors import UserError
from data_pipelines import convert
from data_pipelines.convert import bring_in, config_of, take_out, to_numpy
from data_pipelines.reader import Histories


def history(rng, episodes, shape=(2,), observations="whole") -> dict[str, np.ndarray]:
    """A stream of whole episodes of different lengths."""
    lengths = rng.integers(1, 9, size=episodes)
    steps, ends = lengths.sum(), np.zeros(lengths.sum(), bool)
    ends[np.cumsum(lengths) - 1] = True
    terminal = rng.random(steps) < 0.5
    made = {
        "whole": lambda: rng.integers(-3, 7, size=(steps, *shape)),
        "floats": lambda: rng.normal(size=(steps, *shape)).astype(np.float32) * 1e6,
        "pictures": lambda: rng.integers(256, size=(steps, 4, 5, 3), dtype=np.uint8),
    }
    return {
        "observations": made[observations](),
        "actions": rng.integers(4, size=steps),
        "rewards": rng.choice([-1000.0, 0.0, 0.5], size=steps),
        "terminations": ends & terminal,
        "truncations": ends & ~terminal,
    }


def rows_of(number=3, streams=2, **options) -> list[dict]:
    """Histories of some tasks, each with its labels; the lengths differ, one is long."""
    rng = np.random.default_rng(0)
    return [
        {**history(rng, 90 if task == 1 else 5, **options), "task": task, "stream": stream}
        for task in range(number)
        for stream in range(streams)
    ]


def flat(rows) -> dict[str, np.ndarray]:
    """All rows as one table, with their steps interleaved, as if recorded in parallel."""
    joined = {
        key: np.concatenate([
            row[key] if np.ndim(row[key]) else np.full(len(row["actions"]), row[key])
            for row in rows
        ])
        for key in rows[0]
    }  # fmt: skip
    turn = np.concatenate([np.arange(len(row["actions"])) for row in rows])
    order = np.argsort(turn, kind="stable")
    return {key: values[order] for key, values in joined.items()}


def as_folder(rows, path):
    path.mkdir()
    for i, row in enumerate(rows):
        np.savez(path / f"{i:02}.npz", **row)
    return path


def as_table(rows, path):
    np.savez(path.with_suffix(".npz"), **flat(rows))
    return path.with_suffix(".npz")


def as_hdf5(rows, path):
    import h5py

    with h5py.File(path.with_suffix(".h5"), "w") as file:
        for i, row in enumerate(rows):
            group = file.create_group(f"{i:02}")
            for key, value in row.items():
                if np.ndim(value):
                    group[key] = value
                else:
                    group.attrs[key] = value
    return path.with_suffix(".h5")


def as_hdf5_table(rows, path):
    import h5py

    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        for key, value in flat(rows).items():
            file[key] = value
    return path.with_suffix(".hdf5")


def assert_same(found, rows):
    assert len(found) == len(rows)
    for one, row in zip(found, rows, strict=True):
        for key, value in row.items():
            np.testing.assert_array_equal(one[key], value, err_msg=key)


@pytest.mark.parametrize("write", [as_folder, as_table, as_hdf5, as_hdf5_table])
@pytest.mark.parametrize("observations", ["whole", "floats", "pictures"])
def test_what_comes_in_is_what_is_stored(write, observations, tmp_path):
    """Every step of every stream, in its order, whatever its length and format."""
    rows = rows_of(observations=observations)
    bring_in([write(rows, tmp_path / "given")], tmp_path / "run")
    histories = Histories(tmp_path / "run" / "histories")
    assert_same(list(to_numpy(histories)), rows)


@pytest.mark.parametrize("kind", ["npz", "rlds"])
@pytest.mark.parametrize("parts", [0, 2])
def test_what_goes_out_comes_in_again(kind, parts, tmp_path):
    """Also vectors of actions, whose components have different numbers of values."""
    rows = rows_of()
    for row in rows:
        if parts:
            row["actions"] = np.stack([row["actions"], row["actions"] % 2], 1)
    bring_in([as_folder(rows, tmp_path / "given")], tmp_path / "run")
    out = take_out(tmp_path / "run", kind, tmp_path / "out")
    bring_in([out], tmp_path / "again")
    histories = Histories(tmp_path / "again" / "histories")
    assert_same(list(to_numpy(histories)), rows)
    world = build.world(config_of(convert.record(convert.parts(out))))
    assert Actions.of(world.env) == histories.schema.actions
    assert histories.schema.actions.sizes == ((4, 2) if parts else (4,))


def test_tfds_alone_reads_what_goes_out_as_rlds(tmp_path):
    rows = rows_of()
    bring_in([as_folder(rows, tmp_path / "given")], tmp_path / "run")
    take_out(tmp_path / "run", "rlds", tmp_path / "out")
    episodes = tfds.builder_from_directory(tmp_path / "out").as_data_source(split="train")
    steps = list(episodes[0]["steps"])
    assert steps[0]["is_first"] and steps[-1]["is_last"]
    first = np.flatnonzero(rows[0]["terminations"] | rows[0]["truncations"])[0] + 1
    assert [s["action"] for s in steps] == rows[0]["actions"][:first].tolist()


def test_rlds_of_others_ends_with_an_observation(tmp_path):
    """In RLDS the last step usually has no action: the episode ends with the step before."""
    rows = rows_of()
    bring_in([as_folder(rows, tmp_path / "given")], tmp_path / "run")
    take_out(tmp_path / "run", "rlds", tmp_path / "out")
    features = tmp_path / "out" / "features.json"
    text = json.loads(features.read_text())
    del text["featuresDict"]["features"]["last_step_has_action"]
    features.write_text(json.dumps(text))
    single = [row for row in rows if len(row["actions"]) > 0]
    recording = convert.record(convert.parts(tmp_path / "out"))
    kept = sum(
        len(r["actions"]) - (r["terminations"] | r["truncations"]).sum() for r in single
    )  # one step less for each episode
    assert sum(len(s.history.action) for s in recording.streams) == kept


def test_minari_data_sets_are_tasks(tmp_path, monkeypatch):
    """Each is one data set, made here. The observation after the last action is left out."""
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    given = []
    for task in range(2):
        env = minari.DataCollector(gymnasium.make("CartPole-v1"))
        for episode in range(3):
            env.reset(seed=episode)
            while not any(env.step((episode + task) % 2)[2:4]):
                pass
        env.create_dataset(f"cart/task{task}-v0", algorithm_name="fixed")
        given.append(tmp_path / "minari" / "cart" / f"task{task}-v0")
    recording = bring_in(given, tmp_path / "run")
    assert [(s.task, s.stream) for s in recording.streams] == [(0, 0), (1, 0)]
    first = recording.streams[0].history
    episode = next(iter(minari.load_dataset("cart/task0-v0").iterate_episodes()))
    steps = len(episode.rewards)
    np.testing.assert_array_equal(first.observation[:steps], episode.observations[:-1])
    np.testing.assert_array_equal(first.action[:steps], episode.actions)
    assert first.is_last[steps - 1] and first.is_first[steps] and first.is_terminal[steps - 1]


def test_names_of_tasks_become_numbers_and_are_kept(tmp_path):
    rows = [{**row, "task": f"goal {row['task']}"} for row in rows_of()]
    bring_in([as_folder(rows, tmp_path / "given")], tmp_path / "run")
    histories = Histories(tmp_path / "run" / "histories")
    assert histories.provenance["task_names"] == ["goal 0", "goal 1", "goal 2"]
    assert histories.task.tolist() == [0, 0, 1, 1, 2, 2]


def test_files_without_labels_are_tasks_of_one_stream(tmp_path):
    rows = [{k: v for k, v in row.items() if k not in ("task", "stream")} for row in rows_of(3, 1)]
    recording = bring_in([as_folder(rows, tmp_path / "given")], tmp_path / "run")
    assert [(s.task, s.stream) for s in recording.streams] == [(0, 0), (1, 0), (2, 0)]


def test_steps_that_belong_to_no_whole_episode_are_left_out_and_told(tmp_path, capsys):
    rows = rows_of()
    for key in ("terminations", "truncations"):
        rows[0][key][-1] = False
    as_folder(rows, tmp_path / "given")
    convert.main([f"--from={tmp_path / 'given'}", f"--workdir={tmp_path / 'run'}"])
    assert "left out: " in capsys.readouterr().out


def _with(key, value):
    return lambda rows: rows[2].update({key: value(rows[2][key]) if callable(value) else value})


def _without(*keys):
    return lambda rows: [rows[2].pop(key) for key in keys]


def _set(key, value, step=1):
    def change(rows):
        rows[2][key] = rows[2][key].astype(np.result_type(rows[2][key], value))
        rows[2][key][step] = value

    return change


BAD = {
    "no actions": (_without("actions"), "02.npz lacks actions: it has observations"),
    "no ends": (_without("terminations", "truncations"), "lacks terminations or truncations"),
    "axes": (_with("observations", lambda x: x[:-1]), "observations have .* steps, but actions"),
    "negative action": (_set("actions", -1), "actions go from -1 to 3"),
    "large action": (_set("actions", 300), "actions go from 0 to 300"),
    "continuous": (_with("actions", lambda x: x * 0.5), "discretize continuous actions"),
    "vector of actions": (
        _with("actions", lambda x: np.stack([x, x], 1)),
        r"actions have shape \(2,\), but earlier ones \(\)",
    ),
    "nan reward": (_set("rewards", np.nan), "rewards are NaN or infinite at step 1"),
    "nan observation": (
        _with("observations", lambda x: np.where(np.arange(len(x))[:, None] == 3, np.nan, x)),
        "observations are NaN or infinite at step 3",
    ),
    "large reward": (_set("rewards", 1e300), "rewards are too large for float32"),
    "text": (_with("observations", lambda x: x.astype(str)), "observations are <U"),
    "large numbers": (_set("observations", 2**40), "must fit into int32"),
    "too many values": (_set("observations", 10_000), "up to 1000. values"),
    "endless": (
        lambda rows: [rows[2].update({k: np.zeros(len(rows[2]["actions"]), bool)})
                      for k in ("terminations", "truncations")],
        "task 1, stream 0: no episode ends",
    ),
    "no flags": (_set("terminations", 2), "terminations are not true or false"),
    "other shape": (_with("observations", lambda x: x[:, :1]), "observations have shape"),
    "labels": (_with("task", np.arange(3)), r"task has shape \(3,\)"),
    "one task": (lambda rows: [row.update(task=0) for row in rows], "all steps belong to one task"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_would_not_come_back_equal_is_refused_in_one_line(name, tmp_path):
    rows = rows_of()
    change, message = BAD[name]
    change(rows)
    with pytest.raises(UserError, match=message) as error:
        bring_in([as_folder(rows, tmp_path / "given")], tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "config.json").exists()


def test_options_are_checked(tmp_path):
    given = as_folder(rows_of(), tmp_path / "given")
    with pytest.raises(UserError, match=r"has 2 stream\(s\), fewer than --streams=3"):
        bring_in([given], tmp_path / "run", streams=3)
    with pytest.raises(UserError, match="actions go from 0 to 3: give 0 to 2"):
        bring_in([given], tmp_path / "run", num_actions=3)
    with pytest.raises(UserError, match="no such file or folder"):
        bring_in([tmp_path / "nothing"], tmp_path / "run")
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(UserError, match="is in none of the known formats: give npz"):
        bring_in([tmp_path / "text.txt"], tmp_path / "run")
    (tmp_path / "broken.npz").write_text("hello")
    with pytest.raises(UserError, match="can't be read as npz"):
        bring_in([tmp_path / "broken.npz"], tmp_path / "run")
    bring_in([given], tmp_path / "run")
    with pytest.raises(UserError, match="holds histories already"):
        bring_in([given], tmp_path / "run")
    with pytest.raises(UserError, match="--to=csv: choose one of npz, rlds"):
        take_out(tmp_path / "run", "csv", tmp_path / "out")
    with pytest.raises(UserError, match="is not empty"):
        take_out(tmp_path / "run", "npz", given)
    for arguments in ([], ["--from=x", "--to=npz"], ["--to=npz"]):
        with pytest.raises(UserError, match="give --from=FILE"):
            convert.main([f"--workdir={tmp_path}", *arguments])


def test_floats_that_are_rounded_are_told(tmp_path):
    rows = rows_of(observations="floats")
    rows[0]["observations"] = rows[0]["observations"].astype(np.float64) + 1e-9
    assert bring_in([as_folder(rows, tmp_path / "given")], tmp_path / "run").rounded == [
        "observations"
    ]
