"""Collects, trains, evaluates and reports; each stage is resumed or skipped on its own.

    python -m experiments.run --config=experiments/configs/dark_room.py:quickstart \
        --workdir=runs/quickstart
"""

import contextlib
import pathlib
import re
import sys
from collections.abc import Collection, Sequence

import ml_collections
from absl import app, flags
from ml_collections import config_flags

from ad_jax.distributed import processes
from ad_jax.errors import UserError
from experiments.runtime import joining

joining.join(sys.argv[1:])  # before what follows: gymnax starts JAX's backend when it is imported

from ad_jax.config import defaults
from experiments import configs, pipeline, validation
from experiments.runtime import logs, memory, version
from experiments.runtime.interruption import Interruption, end_well
from experiments.runtime.workdir import Workdir

config_flags.register_flag_parser_for_type(int, validation.IntegerOrNone())
_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "FILE.py:PRESET, NAME:PRESET for a config of this project, or DIR/config.json of a run.",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run, or gs://…; made if it does not exist."
)
_STAGES = flags.DEFINE_list("stages", list(pipeline.STAGES), "Which stages to run.")
_STOPPED_STATUS = flags.DEFINE_integer(
    "stopped_status", None, "Exit status after a signal; by default 128 + its number."
)
_PROFILE = flags.DEFINE_string(
    "profile", None, "Folder for a trace of a few steps of training, for TensorBoard or Perfetto."
)


def main(argv: list[str], interruption: Interruption) -> None:
    if len(argv) > 1:
        raise UserError(f"unknown argument {argv[1]!r}: options begin with --")
    unknown = set(_STAGES.value) - set(pipeline.STAGES)
    if unknown or not _STAGES.value:
        choice = ",".join(pipeline.STAGES)
        raise UserError(f"--stages={','.join(sorted(unknown))}: choose from {choice}")
    interruption.install()
    memory.keep_freed_memory()
    verbosity = flags.FLAGS["verbosity"]
    logs.set_level(verbosity.value if verbosity.present else None)
    run(_CONFIG.value, _WORKDIR.value, _STAGES.value, interruption, _PROFILE.value)


def run(
    config: ml_collections.ConfigDict,
    path: str,
    stages: Collection[str],
    interruption: Interruption,
    profile: str | None = None,
) -> None:
    """Runs the chosen stages in one workdir; those that are done are skipped.

    Args:
      config: of the run.
      path: of the workdir.
      stages: their names.
      interruption: checked between and during stages.
      profile: a folder for a trace of a few steps of training, or None.
    """
    validation.validate(config)
    with contextlib.closing(Workdir(path, config, profile=profile)) as workdir:
        if processes.is_first():
            print(version.line(path, config.mesh), flush=True)
        pipeline.run_stages(config, workdir, stages, interruption)


# What reading a config file may raise.
_OF_CONFIG = (
    flags.Error, AttributeError, ImportError, KeyError, NameError, OSError, SyntaxError, TypeError,
    ValueError,
)  # fmt: skip


def _parse(argv: list[str]) -> list[str]:
    """Parses flags and loads the config file; raises a UserError if anything is wrong there."""
    try:
        rest = flags.FLAGS(_with_files(argv))
        if not (_CONFIG.value and _WORKDIR.value):
            raise UserError("give --config, such as dark_room:quickstart, and --workdir")
        _ = _CONFIG.value.preset  # raises if the file could not be read
        return rest
    except _OF_CONFIG as error:
        raise UserError(_located(_reason(str(error)), argv)) from error


def _with_files(argv: list[str]) -> list[str]:
    """Replaces ``--config=NAME:PRESET`` and ``--config=FILE.json`` by files with ``get_config``.

    NAME is one of our configs, FILE.json the config that a run has stored.
    """
    folder = pathlib.Path(configs.__file__).parent

    def one(before: str, argument: str) -> str:
        found = re.fullmatch(r"(--?config=|)((\w+)(:.*|)|.+\.json)", argument)
        if not found or not (found[1] or before in ("--config", "-config")):
            return argument
        if found[3] is None:
            return f"{found[1]}{folder / 'stored.py'}:{found[2]}"
        file = folder / f"{found[3]}.py"
        if file.exists():
            return f"{found[1]}{file}{found[4]}"
        if not pathlib.Path(found[3]).exists():
            known = sorted(path.stem for path in folder.glob("*.py"))
            ours = ", ".join(n for n in known if n not in ("__init__", "common", "stored"))
            raise UserError(f"--config={found[2]}: no such config: give a file, or one of {ours}")
        return argument

    return list(map(one, ["", *argv], argv))


def _reason(text: str) -> str:
    """The message of an error of ml_collections as one line."""
    if "Traceback" in text:  # it quotes the traceback of get_config
        text = text.strip().splitlines()[-1].removeprefix(f"{UserError.__module__}.UserError: ")
    return " ".join(text.replace("\\n", " ").replace("\\'", "").replace("'", "").split())


def _located(text: str, argv: Sequence[str]) -> str:
    """Adds the whole key to a message that only gives the part of the key that is missing."""
    missing, _, hint = text.partition(" ")
    missing = missing.strip('"')
    for argument in argv:
        key = argument.partition("=")[0].lstrip("-")
        if key.startswith("config.") and _first_missing(key.split(".")[1:]) == missing:
            if not hint and key.startswith(("config.env.", "config.source.", "config.model.")):
                hint = "settings of your own components exist once a config file names them"
            more = f": {hint[0].lower()}{hint[1:]}" if hint else ""
            return f"--{key}: the config has no {missing} there{more}"
    return text


def _first_missing(parts: Sequence[str]) -> str | None:
    """The part of a key that the defaults lack."""
    group = defaults()
    for part in parts:
        if not isinstance(group, ml_collections.ConfigDict) or part not in group:
            return part
        group = group[part]
    return None


def entry_point() -> None:
    """Runs ``main``."""
    interruption = Interruption()
    work = lambda: app.run(lambda argv: main(argv, interruption), flags_parser=_parse)
    end_well(work, interruption, lambda: _STOPPED_STATUS.value)


if __name__ == "__main__":
    entry_point()
