"""The device mesh, and where arrays live on it."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ad_jax.errors import UserError

DATA = "data"  # the axis over which tasks and windows are spread


def make_mesh(num_devices: int = -1) -> Mesh:
    """A mesh of the first ``num_devices`` devices, -1 for all, along the axis "data".

    Raises:
      UserError: there are not that many devices.
    """
    devices = jax.devices()
    if num_devices == -1:
        num_devices = len(devices)
    if not 1 <= num_devices <= len(devices):
        raise UserError(
            f"mesh.data={num_devices}, but there are {len(devices)} devices: "
            "lower it, or give -1 for all"
        )
    return jax.make_mesh(
        (num_devices,), (DATA,), axis_types=(AxisType.Auto,), devices=devices[:num_devices]
    )


def sharded(mesh: Mesh) -> NamedSharding:
    """The first axis is spread over the devices."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds all of it."""
    return NamedSharding(mesh, PartitionSpec())


def check_divides(mesh: Mesh, size: int, name: str) -> None:
    """Raises UserError unless the devices share ``size`` equally."""
    if size % mesh.size:
        raise UserError(
            f"{name}={size} is not a multiple of the {mesh.size} devices: "
            "change it, or set mesh.data to fewer devices"
        )


def pad_tasks(mesh: Mesh, task_ids: np.ndarray) -> np.ndarray:
    """Repeats the last task until the devices share the tasks equally."""
    return np.pad(task_ids, (0, -len(task_ids) % mesh.size), mode="edge")
