"""Starts a program that may have several processes.

JAX does not report which processes are missing when others wait for them. So each process leaves
its number in the workdir while it waits.
"""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

import jax

from ad_jax.distributed import processes
from ad_jax.errors import UserError
from ad_jax.paths import Path, as_path, reason

FOLDER = "joining"
# Settings of JAX that are not supported: their values, and why.
UNSUPPORTED = {
    "jax_disable_jit": ((True,), "the stages have to be compiled"),
    "jax_enable_x64": ((True,), "everything is written for 32 bits"),
    "jax_numpy_dtype_promotion": (("strict",), "integers and floats are mixed in many places"),
    "jax_numpy_rank_promotion": (("raise",), "shapes are broadcast in many places"),
    **dict.fromkeys(
        (f"jax_transfer_guard{which}" for which in
         ("", "_host_to_device", "_device_to_host", "_device_to_device")),
        (("disallow", "disallow_explicit"), "inputs and results are moved; training sets its own"),
    ),
}  # fmt: skip


def join(arguments: list[str]) -> None:
    """Joins the processes of a run, or exits with an error of one line.

    Must be called before anything imports gymnax, which starts JAX's backend.

    Args:
      arguments: of the command line, of which only the workdir is read.
    """
    try:
        number, count = processes.process_index_and_count()
        with contextlib.ExitStack() as stack:
            absent = None
            if count > 1 and (folder := _workdir(arguments)):
                with contextlib.suppress(Exception):  # Workdir reports a folder that can't be used
                    absent = stack.enter_context(_present(folder / FOLDER, number, count))
            processes.start(absent)
        _start_backend()
    except UserError as error:
        sys.exit(f"error: {error}")


def _start_backend() -> None:
    for name, (values, why) in UNSUPPORTED.items():
        setting = getattr(jax.config, name) or os.environ.get(name.upper())
        if (value := getattr(setting, "value", setting)) in values:
            raise UserError(f"{name.upper()}={value} is not supported: unset it, since {why}")
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter has no message
        asked = jax.config.jax_platforms  # type: ignore[attr-defined]
        raise UserError(
            f"JAX finds no device for JAX_PLATFORMS={asked or ''}: unset it, or set it to what "
            f"this machine has, for example cpu ({reason(error)})"
        ) from error


def _workdir(arguments: list[str]) -> Path | None:
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--workdir")
    given = parser.parse_known_args(arguments)[0].workdir
    return as_path(given) if given else None


@contextlib.contextmanager
def _present(folder: Path, number: int, count: int) -> Iterator[Callable[[], list[int]]]:
    """Marks this process as present; yields a function that returns who is absent."""
    own = folder / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    own.write_text(str(time.time()))

    def absent() -> list[int]:
        seen = [path for path in folder.iterdir() if path.name != own.name]
        recent = time.time() - processes.join_seconds()  # others were killed while they waited
        there = {int(path.name) for path in seen if float(path.read_text()) >= recent}
        leave()  # so that later checks report this process as absent, too
        return sorted(set(range(count)) - there - {number})

    def leave() -> None:
        own.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # by the last one

    try:
        yield absent
    finally:
        leave()
