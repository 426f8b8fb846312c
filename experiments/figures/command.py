"""The options and the start shared by all commands that do the jobs of many runs."""

import argparse

from ad_jax.errors import UserError
from experiments.figures import work
from experiments.figures.runs import PRESETS
from experiments.runtime import logs, memory, version
from experiments.runtime.interruption import Interruption


def parse(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """The options of a command: those that its parser has, and those that all have.

    Raises:
      UserError: the preset, the number of seeds or the shard is not valid.
    """
    parser.add_argument("--list", action="store_true", help="list the work to do, and stop")
    parser.add_argument("--preset", default="cpu", help=", ".join(PRESETS))
    parser.add_argument("--workdir", help="folder for all of the work")
    parser.add_argument(
        "--seeds", type=int, help="number of training seeds, in place of the preset's"
    )
    parser.add_argument("--shard", default="1/1", help="i/n: do the i-th of n parts of the work")
    parser.add_argument("--verbosity", type=int, help="log level: 1 debug, 0 info, -1 warning, …")
    options = parser.parse_args(arguments)
    if options.preset not in PRESETS:
        raise UserError(f"--preset={options.preset}: choose one of {', '.join(PRESETS)}")
    if options.seeds is not None and options.seeds < 1:
        raise UserError(f"--seeds={options.seeds}: give one or more")
    options.shard = _shard(options.shard)
    return options


def begin(options: argparse.Namespace, interruption: Interruption) -> None:
    """Prepares for the first job: signals, memory, logging and the first line of output.

    Raises:
      UserError: there is no workdir.
    """
    if not options.workdir:
        raise UserError("give --workdir, a folder for all of the work, or --list")
    interruption.install()
    memory.keep_freed_memory()
    logs.set_level(options.verbosity)
    work.say(version.line(options.workdir))


def _shard(text: str) -> tuple[int, int]:
    """(index, count) of "i/n", the i-th of n parts of the work."""
    try:
        index, count = map(int, text.split("/"))
        if 1 <= index <= count:
            return index - 1, count
    except ValueError:
        pass
    raise UserError(f"--shard={text}: give i/n with i from 1 to n, for example 1/4")
