"""The stages of a run, in their order, and who decides what is left to do.

A stage is done if its output is complete and was made from what is there now. Process 0 looks at
the file system and tells the others, so that all of them do the same.
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

MADE_FROM = "made_from.json"  # in a workdir: from a stage's name to its inputs' digests


class Stage(NamedTuple):
    """A part of a run.

    Attributes:
      inputs: ``inputs(config, folders)``, cheap digests of what it reads of earlier stages, JSON
        values; None if that is not there.
      done: ``done(config, folders)``, whether its output is complete; reads files only.
      run: ``run(config, workdir, interruption)``, does what is missing.
      alone: only process 0 runs it.
    """

    inputs: Callable[[ml_collections.ConfigDict, Folders], Any]
    done: Callable[[ml_collections.ConfigDict, Folders], bool]
    run: Callable[[ml_collections.ConfigDict, Workdir, Interruption], None]
    alone: bool = False


def _no_inputs(config: ml_collections.ConfigDict, folders: Folders) -> list:
    del config, folders
    return []


def _histories(config: ml_collections.ConfigDict, folders: Folders) -> Any:
    """The shards' checksums: histories that are collected again are the same."""
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
    """One function for worlds in which one can act, another where only histories are known."""

    def run(config, workdir, interruption) -> None:
        env = build.world(config).env
        (acting if build.acts(env) else recorded)(config, workdir, interruption)

    return run


# What a run does unless told otherwise. All of a config is validated before the first of them.
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
    """Runs some stages in their order; those that are done are skipped.

    Args:
      config: was validated.
      workdir: is open.
      names: of the stages.
      interruption: is asked before each stage, and within.

    Raises:
      UserError: a stage can't be done.
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

    A workdir of an older version does not say what an output was made from: there it counts, as
    long as its inputs are there at all.
    """
    stage = STAGES[name]
    if not stage.done(config, folders):
        return False
    if (now := stage.inputs(config, folders)) is None:
        return False
    made_from = _made_from(folders)
    return name not in made_from or made_from[name] == now


def _begin(name: str, config: ml_collections.ConfigDict, workdir: Workdir) -> None:
    """Writes down what a stage is made from, from before it starts: it may be killed at any time.

    Outputs of former inputs are refused or removed.
    """
    if workdir.read_only:
        raise UserError(
            f"{workdir.path} can't be written to, and the stage {name!r} is not done there: copy "
            "it to another folder"
        )
    now, made_from = STAGES[name].inputs(config, workdir), _made_from(workdir)
    if now is None:
        return  # the stage says what is missing
    same = made_from.get(name, now) == now
    if name == "train" and not same and checkpoint.newest(workdir.checkpoints):
        raise UserError(
            f"{workdir.checkpoints} was trained on other histories than those in "
            f"{workdir.histories}: remove {workdir.checkpoints}, and it trains again, or put "
            "the former histories back"
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
