"""Which version of the program runs, and on what."""

import os
import pathlib
import subprocess
from collections.abc import Mapping

import jax

import ad_jax
from ad_jax.distributed import sharding


def commit() -> str:
    """The commit of the source tree, with "-dirty" if files were changed.

    Without a source tree, as in a container, it is AD_JAX_COMMIT; without that, "unknown".
    """
    without = os.environ.get("AD_JAX_COMMIT", "unknown")
    root = pathlib.Path(ad_jax.__file__).parents[1]
    if not (root / ".git").exists():  # an installed package may lie in somebody else's tree
        return without
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):  # no git, or a tree of another owner
        return without
    return said.stdout.strip()


def devices() -> str:
    """How many devices of which kind all processes have."""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}"


def line(workdir: str, mesh: Mapping[str, int] | None = None) -> str:
    """What a program says at its start: version, commit, devices, processes, mesh and workdir.

    Args:
      workdir: as it was given.
      mesh: devices along each axis, as of a config; None where each run has its own.
    """
    number = jax.process_count()
    parts = [
        f"ad_jax {ad_jax.__version__} ({commit()})",
        devices(),
        f"{number} process{'es' if number > 1 else ''}",
    ]
    if mesh is not None:
        shape = sharding.make_mesh(**mesh).shape
        parts.append("mesh " + " ".join(f"{axis}={size}" for axis, size in shape.items()))
    return ", ".join([*parts, f"workdir {workdir}"])


def made() -> dict[str, str]:
    """The versions that a summary records."""
    return {"version": ad_jax.__version__, "commit": commit(), "jax": jax.__version__}
