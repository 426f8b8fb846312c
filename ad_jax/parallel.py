"""The processes of a run, their device mesh, and where arrays live on it."""

import contextlib
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ad_jax.errors import UserError

# Windows are spread over "data" and "fsdp", tasks over all three; parameters over "fsdp", which
# gathers them where they are used, and "model", which splits heads and hidden units.
AXES = DATA, FSDP, MODEL = ("data", "fsdp", "model")

# Where the parameters of a model live: the first pattern found in a parameter's path
# says over which mesh axis each of its axes is spread. What the optimiser keeps of a parameter
# lives where the parameter does.
_SHARED = (
    (r"/head/kernel$", (FSDP, None)),
    (r"/embedding$|/positions$|embed/(reward|observation)/kernel$", (None, FSDP)),
    (r"/(bias|scale|mask|ns_coeffs)$|/ImageEncoder_\d+/", ()),
)
RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"blocks_\d+/qkv/kernel$", (FSDP, None, MODEL, None)),
    (r"blocks_\d+/qkv/bias$", (None, MODEL, None)),
    (r"blocks_\d+/out/kernel$", (MODEL, None, FSDP)),
    (r"blocks_\d+/up/kernel$", (FSDP, MODEL)),
    (r"blocks_\d+/up/bias$", (MODEL,)),
    (r"blocks_\d+/down/kernel$", (MODEL, FSDP)),
    *_SHARED,
)
# A layer of an LSTM needs all of its state at every step: "model" does not split it.
LSTM_RULES = (
    (r"/cell/[ih][ifgo]/kernel$|/mlp_\d+/kernel$", (FSDP, None)),
    *_SHARED,
)

JOIN_SECONDS = 300  # that processes wait for each other at the start,
HEARTBEAT_SECONDS = 100  # and until a dead one is noticed
# Environment variables with a process's number and their count: of SLURM and Open MPI.
_LAUNCHERS = (
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
)
MAX_CPU_DEVICES = 4  # that are made unasked; every preset's windows can be shared by so many


def start(absent: Callable[[], list[int]] | None = None) -> None:
    """Joins the processes of a run, if there are several; before JAX's backend is started.

    JAX finds the others by itself under SLURM, Open MPI and on TPU pods. Elsewhere
    JAX_COORDINATOR_ADDRESS (host:port of the first process), JAX_NUM_PROCESSES and JAX_PROCESS_ID
    say it. AD_JAX_TIMEOUT, in seconds, takes the place of ``JOIN_SECONDS`` and
    ``HEARTBEAT_SECONDS``. If not all come in time, the process ends with status 1.

    A process that is alone makes a CPU several devices; see ``split_cpu``.

    Args:
      absent: has the numbers of the processes that were not started, where that is known.

    Raises:
      UserError: the variables contradict each other.
    """
    number, count = place()
    address = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if count == 1 and not address:
        split_cpu()
        return
    given = {}
    if address:
        given = {"coordinator_address": address, "num_processes": count, "process_id": number}
    seconds = join_seconds()
    # JAX's own timeout aborts the process with a stack trace.
    where = address or "the cluster's first host"
    who = f"process {number} of {count} waited {seconds} s at {where}"
    watchdog = threading.Timer(seconds, _give_up, [who, absent])
    watchdog.daemon = True
    watchdog.start()
    jax.distributed.initialize(
        **given,
        initialization_timeout=2 * seconds,
        heartbeat_timeout_seconds=int(os.environ.get("AD_JAX_TIMEOUT") or HEARTBEAT_SECONDS),
    )
    watchdog.cancel()


def join_seconds() -> int:
    """How long processes wait for each other."""
    return int(os.environ.get("AD_JAX_TIMEOUT") or JOIN_SECONDS)


def place() -> tuple[int, int]:
    """(number of this process, how many there are), as whoever started it says; (0, 1) alone.

    Raises:
      UserError: only a part of it is said.
    """
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        try:
            return int(os.environ["JAX_PROCESS_ID"]), int(os.environ["JAX_NUM_PROCESSES"])
        except (KeyError, ValueError) as error:
            raise UserError(
                "JAX_COORDINATOR_ADDRESS is set: give JAX_NUM_PROCESSES and JAX_PROCESS_ID, two "
                f"numbers, as well ({error})"
            ) from error
    for number, count in _LAUNCHERS:
        if number in os.environ and int(os.environ.get(count, 1)) > 1:
            return int(os.environ[number]), int(os.environ[count])
    workers = os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")
    return int(os.environ.get("TPU_WORKER_ID", 0)), len(workers)


def split_cpu() -> None:
    """Makes of the CPU a device for each core, at most ``MAX_CPU_DEVICES`` and a power of two.

    XLA keeps most operators on one core: devices side by side use all of them. JAX_NUM_CPU_DEVICES
    takes precedence. On other platforms it changes nothing.
    """
    asked = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if jax.config.jax_num_cpu_devices == -1 and not asked:
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        devices = 2 ** int(math.log2(min(cores, MAX_CPU_DEVICES)))
        jax.config.update("jax_num_cpu_devices", devices)


def _give_up(who: str, absent: Callable[[], list[int]] | None) -> None:
    text = "not all of the others came: see in their logs which were not started, or can't reach it"
    with contextlib.suppress(Exception):  # a file is gone, a store is away
        if missing := absent and absent():
            numbers = ", ".join(map(str, missing))
            text = f"process {numbers} of them did not come: see why it was not started"
        elif absent:
            text = "all others were started, but not all have reached it: see their logs"
    print(f"error: {who}, and {text}", file=sys.stderr, flush=True)
    os._exit(1)


def is_first() -> bool:
    """Whether this is the process that writes what is written once."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Puts host arrays, which all processes have alike, where a sharding says."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def one(x):
        if jax.dtypes.issubdtype(getattr(x, "dtype", None), jax.dtypes.prng_key):
            return jax.random.wrap_key_data(one(jax.random.key_data(x)))
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(one, tree)


def fetch(tree: Any) -> Any:
    """The whole of arrays, in every process, as NumPy arrays."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


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


def local_mesh(most: int) -> Mesh:
    """Devices of this process alone, ``most`` of them if there are so many, all along "data"."""
    devices = jax.local_devices()[:most]
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
      function: from arrays to arrays.
      num_shared: so many of its first arguments are the same everywhere.

    Returns:
      The function of arguments with one more leading axis, which its results have as well. The
      devices share it equally, and a device that has several of it takes them at once.
    """

    def on_one(*arguments):
        shared, own = arguments[:num_shared], arguments[num_shared:]
        if len(jax.tree.leaves(own)[0]) > 1:
            return jax.vmap(lambda *own: function(*shared, *own))(*own)
        result = function(*shared, *jax.tree.map(lambda x: x[0], own))
        return jax.tree.map(lambda x: x[None], result)

    def on_all(*arguments):
        specs = [PartitionSpec()] * num_shared
        specs += [PartitionSpec(AXES)] * (len(arguments) - num_shared)
        return jax.shard_map(
            on_one, mesh=mesh, in_specs=tuple(specs), out_specs=PartitionSpec(AXES), check_vma=False
        )(*arguments)

    return on_all


def on_mesh(mesh: Mesh, function: Callable) -> Callable:
    """A function to be jitted which, while it is traced, knows the mesh it is for."""

    def traced(*arguments):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*arguments)

    return traced


def traced_mesh() -> jax.sharding.AbstractMesh | None:
    """The mesh over which the function that is being traced may spread its arrays.

    None where it is for one device: alone, or ``on_each_device``.
    """
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty or mesh.manual_axes else mesh


def keep_windows_apart(x: jax.Array) -> jax.Array:
    """The same array, its first axis spread over "data" and "fsdp" as the windows are.

    Where parameters are spread over "fsdp", the compiler would otherwise spread the activations as
    these are and send them around, many times the bytes of the parameters. Does nothing but in a
    function that is traced ``on_mesh``.
    """
    if traced_mesh() is None:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec((DATA, FSDP)))


def check_windows(mesh: Mesh, size: int, name: str) -> None:
    """Raises UserError unless the devices share ``size`` windows equally."""
    parts = mesh.shape[DATA] * mesh.shape[FSDP]
    if size % parts:
        raise UserError(
            f"{name}={size} is not a multiple of the {parts} devices that share it: change it, or "
            "the mesh (on a CPU, JAX_NUM_CPU_DEVICES)"
        )


def check_memory(shapes: Any, shardings: Any) -> None:
    """Checks that a device can hold its part of arrays, where it says how much memory it has.

    Args:
      shapes: tree of whatever has a shape and a dtype.
      shardings: of each.

    Raises:
      UserError: it can't.
    """
    part = lambda x, sharding: math.prod(sharding.shard_shape(x.shape)) * x.dtype.itemsize
    need = sum(jax.tree.leaves(jax.tree.map(part, shapes, shardings)))
    has = _device_memory()
    if has and need > has:
        raise UserError(
            f"the model and its optimiser take {need / 2**30:.2f} GiB of each device, which has "
            f"{has / 2**30:.2f}: take more devices, and spread them by mesh.fsdp or mesh.model"
        )


def _device_memory() -> int | None:
    """Bytes that JAX may use of a device's memory; None where it does not know."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def padded(mesh: Mesh, values: np.ndarray) -> np.ndarray:
    """Repeats the last value until all devices share them equally."""
    return np.pad(values, (0, -len(values) % mesh.size), mode="edge")
