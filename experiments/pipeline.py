"""The stages of a run, in their order, and the decision which of them still have to run.

A stage is done if its output is complete and was made from the inputs that are there now. Process 0
checks the file system and tells the other processes, so that all of them do the same.
"""

import functools
import json
import zlib
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import ml_collections

from ad_jax import build, checkpoint
from ad_jax.distributed import processes
from ad_jax.errors import UserError
from data_pipelines.files import fingerprint, read_json, write_text_atomically
from data_pipelines.writer import PROVENANCE
from experiments.runtime.interruption import Interruption
from experiments.runtime.workdir import Folders, Workdir
from experiments.stages import collect, evaluate, predictions, report, train

MADE_FROM = "made_from.json"  # in a workdir: the digests of each stage's inputs, by its name


class Stage(NamedTuple):
    """A part of a run.

    Attributes:
      inputs: ``inputs(config, folders)``, cheap digests of the earlier stages' output that it
        reads, as JSON values; None if that output is missing.
      done: ``done(config, folders)``, whether its output is complete; only reads files.
      run: ``run(config, workdir, interruption)``, does what is missing.
      alone: whether only process 0 runs it.
    """

    inputs: Callable[[ml_collections.ConfigDict, Folders], Any]
    done: Callable[[ml_collections.ConfigDict, Folders], bool]
    run: Callable[[ml_collections.ConfigDict, Workdir, Interruption], None]
    alone: bool = False


def _no_inputs(config: ml_collections.ConfigDict, folders: Folders) -> list:
    del config, folders
    return []


def _histories(config: ml_collections.ConfigDict, folders: Folders) -> Any:
    """A digest of the shards' checksums, which stays the same if histories are collected again."""
    if not build.reads_windows(config):
        return []
    path = folders.histories / PROVENANCE
    if not path.exists():
        return None
    shards = read_json(path, "remove the folder, and collect again").get("shards")
    return zlib.crc32(json.dumps(shards, sort_keys=True).encode())


def _model(config: ml_collections.ConfigDict, folders: Folders) -> Any:
    del config
    return checkpoint.newest(folders.checkpoints)


def _results(config: ml_collections.ConfigDict, folders: Folders) -> Any:
    del config
    path = folders.evaluation / evaluate.RESULTS
    return fingerprint(path) if path.exists() else None


def _by_world(acting: Callable, recorded: Callable) -> Callable:
    """Chooses one function for environments to act in, another for recorded histories."""

    def run(config, workdir, interruption) -> None:
        env = build.world(config).env
        (acting if build.acts(env) else recorded)(config, workdir, interruption)

    return run


# The stages that a run has by default. The whole config is validated before the first one.
STAGES = {
    "collect": Stage(_no_inputs, collect.done, collect.run),
    "train": Stage(_histories, train.done, train.run),
    "evaluate": Stage(
        _model, evaluate.done, _by_world(acting=evaluate.run, recorded=predictions.run)
    ),
    "report": Stage(
        _results, report.done, _by_world(acting=report.run, recorded=predictions.report), alone=True
    ),
}


def run_stages(
    config: ml_collections.ConfigDict,
    workdir: Workdir,
    names: Collection[str],
    interruption: Interruption,
) -> None:
    """Runs the named stages in their order; skips those that are done.

    Args:
      config: of the run, validated.
      workdir: of the run, open.
      names: the names of the stages.
      interruption: checked before and during each stage.

    Raises:
      UserError: a stage can't be run.
      Interrupted: after a signal.
    """
    for name in STAGES:
        if name not in names:
            continue
        interruption.check()
        if processes.first_decides(lambda name=name: is_done(name, config, workdir)):
            if processes.is_first():
                where = f": {workdir.report}" if name == "report" else ""
                print(f"{name}: already done, skipped{where}", flush=True)
            continue
        processes.first_does(functools.partial(_begin, name, config, workdir))
        stage = STAGES[name]
        if stage.alone:
            processes.first_does(functools.partial(stage.run, config, workdir, interruption))
        else:
            stage.run(config, workdir, interruption)
            processes.barrier(f"{name}: done")


def is_done(name: str, config: ml_collections.ConfigDict, folders: Folders) -> bool:
    """Whether a stage's output is complete, and made from the inputs that are there now.

    A workdir of an older version does not record what an output was made from. There a complete
    output counts as done as long as its inputs exist.
    """
    stage = STAGES[name]
    if not stage.done(config, folders):
        return False
    if (now := stage.inputs(config, folders)) is None:
        return False
    made_from = _made_from(folders)
    return name not in made_from or made_from[name] == now


def _begin(name: str, config: ml_collections.ConfigDict, workdir: Workdir) -> None:
    """Records the inputs of a stage before it starts, since it may be killed at any time.

    Output made from other inputs is removed; if it is checkpoints, a UserError is raised instead.
    """
    if workdir.read_only:
        raise UserError(
            f"{workdir.path} can't be written to, and its stage {name!r} is not done: copy it to "
            "another folder"
        )
    now, made_from = STAGES[name].inputs(config, workdir), _made_from(workdir)
    if now is None:
        return  # the stage says what is missing
    same = made_from.get(name, now) == now
    if name == "train" and not same and checkpoint.newest(workdir.checkpoints):
        raise UserError(
            f"{workdir.checkpoints} was trained on other histories than those in "
            f"{workdir.histories}: remove {workdir.checkpoints} to train again, or restore the "
            "former histories"
        )
    if name == "evaluate":
        (workdir.evaluation / evaluate.RESULTS).unlink(missing_ok=True)
    names = list(STAGES)
    later = {n: None for n in names[names.index(name) + 1 :] if n not in made_from}
    text = json.dumps({**made_from, **later, name: now}, indent=1)
    write_text_atomically(workdir.path / MADE_FROM, text)
    (workdir.report / report.SUMMARY).unlink(missing_ok=True)  # it would show older results


def _made_from(folders: Folders) -> dict[str, Any]:
    path = folders.path / MADE_FROM
    return read_json(path, "remove it") if path.exists() else {}
