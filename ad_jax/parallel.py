"""The device mesh, and where arrays live on it."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ad_jax.errors import UserError

# Windows are spread over "data" and "fsdp", tasks over all three; parameters over "fsdp", which
# gathers them where they are used, and "model", which splits heads and hidden units.
AXES = DATA, FSDP, MODEL = ("data", "fsdp", "model")

# Where the parameters of the transformer live: the first pattern found in a parameter's path
# says over which mesh axis each of its axes is spread. What the optimiser keeps of a parameter
# lives where the parameter does.
RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"blocks_\d+/qkv/kernel$", (FSDP, None, MODEL, None)),
    (r"blocks_\d+/qkv/bias$", (None, MODEL, None)),
    (r"blocks_\d+/out/kernel$", (MODEL, None, FSDP)),
    (r"blocks_\d+/up/kernel$", (FSDP, MODEL)),
    (r"blocks_\d+/up/bias$", (MODEL,)),
    (r"blocks_\d+/down/kernel$", (MODEL, FSDP)),
    (r"/head/kernel$", (FSDP, None)),
    (r"/embedding$|/positions$|embed/(reward|observation)/kernel$", (None, FSDP)),
    (r"/(bias|scale|mask|ns_coeffs)$|/ImageEncoder_\d+/", ()),
)


def make_mesh(data: int = -1, fsdp: int = 1, model: int = 1) -> Mesh:
    """All devices, of all processes, along the axes ``AXES``.

    Args:
      data, fsdp, model: devices along each axis; one of them may be -1, which is all that are left.

    Raises:
      UserError: they do not multiply to the number of devices.
    """
    devices = jax.devices()
    sizes = [data, fsdp, model]
    given = [size for size in sizes if size != -1]
    rest = len(devices) // max(1, int(np.prod(given)))
    sizes = [rest if size == -1 else size for size in sizes]
    if len(given) < 2 or min(sizes) < 1 or np.prod(sizes) != len(devices):
        raise UserError(
            f"mesh.data={data}, mesh.fsdp={fsdp} and mesh.model={model} do not multiply to the "
            f"{len(devices)} devices: change them; one of them may be -1, for what is left"
        )
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def local_mesh() -> Mesh:
    """The devices of this process alone, all along "data"."""
    devices = jax.local_devices()
    shape = (len(devices), 1, 1)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def over_tasks(mesh: Mesh) -> NamedSharding:
    """The first axis is spread over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def over_windows(mesh: Mesh) -> NamedSharding:
    """The first axis is spread over "data" and "fsdp"."""
    return NamedSharding(mesh, PartitionSpec((DATA, FSDP)))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds all of it."""
    return NamedSharding(mesh, PartitionSpec())


def state_shardings(mesh: Mesh, state: Any, rules: Sequence = RULES) -> Any:
    """Where each array of a state lives.

    Args:
      mesh: from ``make_mesh``.
      state: a pytree of arrays or of their shapes, with parameters and what belongs to them under
        the same paths; scalars are on every device.
      rules: (pattern, mesh axis of each axis), the first that is found in a path counts.

    Returns:
      A pytree of shardings.

    Raises:
      UserError: a mesh axis does not divide what it is to spread.
      ValueError: there is no rule for an array, or no array for a rule.
    """
    unused = {pattern for pattern, _ in rules}

    def sharding(path, leaf) -> NamedSharding:
        if not leaf.ndim:
            return replicated(mesh)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found = next((rule for rule in rules if re.search(rule[0], name)), None)
        if found is None:
            raise ValueError(f"no sharding rule for {name}")
        pattern, axes = found
        unused.discard(pattern)
        for size, axis in zip(leaf.shape, axes, strict=False):
            if axis and size % mesh.shape[axis]:
                raise UserError(
                    f"mesh.{axis}={mesh.shape[axis]} does not divide {name} of shape {leaf.shape}: "
                    "lower it, or change the size of the model"
                )
        return NamedSharding(mesh, PartitionSpec(*axes))

    shardings = jax.tree_util.tree_map_with_path(sharding, state)
    if unused:
        raise ValueError(f"sharding rules that match nothing: {', '.join(sorted(unused))}")
    return shardings


def on_each_device(mesh: Mesh, function: Callable, num_shared: int = 0) -> Callable:
    """Runs a function on every device, on arguments of its own.

    Args:
      mesh: from ``make_mesh``.
      function: from arrays to arrays, without an axis for the devices.
      num_shared: so many of its first arguments are the same everywhere.

    Returns:
      The function of arguments with a leading axis [device], which its results have as well.
    """

    def on_one(*arguments):
        shared, own = arguments[:num_shared], arguments[num_shared:]
        result = function(*shared, *jax.tree.map(lambda x: x[0], own))
        return jax.tree.map(lambda x: x[None], result)

    def on_all(*arguments):
        specs = [PartitionSpec()] * num_shared
        specs += [PartitionSpec(AXES)] * (len(arguments) - num_shared)
        return jax.shard_map(
            on_one, mesh=mesh, in_specs=tuple(specs), out_specs=PartitionSpec(AXES), check_vma=False
        )(*arguments)

    return on_all


def check_divides(sharding: NamedSharding, size: int, name: str) -> None:
    """Raises UserError unless the devices share a first axis of ``size`` equally."""
    parts = len(sharding.device_set) // sharding.mesh.shape[MODEL]
    if size % parts:
        raise UserError(
            f"{name}={size} is not a multiple of the {parts} devices that share it: change it, or "
            "the mesh"
        )


def pad_tasks(mesh: Mesh, task_ids: np.ndarray) -> np.ndarray:
    """Repeats the last task until the devices share the tasks equally."""
    return np.pad(task_ids, (0, -len(task_ids) % mesh.size), mode="edge")
