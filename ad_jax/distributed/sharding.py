"""The device mesh of a run, and where arrays live on it."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ad_jax.errors import UserError

# Windows are sharded over "data" and "fsdp", their steps over "sequence", and tasks over all four
# axes. Parameters are sharded over "fsdp", along which they are gathered where they are used, and
# over "model", which splits heads and hidden units.
AXES = DATA, FSDP, MODEL, SEQUENCE = ("data", "fsdp", "model", "sequence")
# Devices that share the steps of a window need the same parameters. So what a rule shards over
# "fsdp" is sharded over "sequence" as well, instead of being replicated along it.
_SPREADS = {FSDP: (FSDP, SEQUENCE)}
WINDOWS = (DATA, FSDP)
HEADS = PartitionSpec(WINDOWS, None, (MODEL, SEQUENCE), None)  # of [B, T, H, D] inside attention


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Puts host arrays, which must be the same in all processes, on devices with a sharding."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def one(x):
        if jax.dtypes.issubdtype(getattr(x, "dtype", None), jax.dtypes.prng_key):
            return jax.random.wrap_key_data(one(jax.random.key_data(x)))
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(one, tree)


def fetch(tree: Any) -> Any:
    """Gathers arrays: every process gets all of each, as a NumPy array."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def make_mesh(
    data: int = -1, fsdp: int = 1, model: int = 1, sequence: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:  # fmt: skip
    """A mesh of devices with the axes ``AXES``.

    Args:
      data, fsdp, model, sequence: number of devices along each axis; one of them may be -1, for all
        that are left.
      devices: the devices of the mesh; those of all processes if None.

    Raises:
      UserError: the numbers do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [data, fsdp, model, sequence]
    given = [size for size in sizes if size != -1]
    rest = len(devices) // max(1, int(np.prod(given)))
    sizes = [rest if size == -1 else size for size in sizes]
    if len(given) < len(AXES) - 1 or min(sizes) < 1 or np.prod(sizes) != len(devices):
        raise UserError(
            f"mesh.data={data}, mesh.fsdp={fsdp}, mesh.model={model} and mesh.sequence={sequence} "
            f"do not multiply to the {len(devices)} devices: change them; one of them may be -1, "
            "which takes the remaining devices"
        )
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def local_mesh(most: int) -> Mesh:
    """A mesh of at most ``most`` devices of this process, all of them along "data"."""
    return make_mesh(devices=jax.local_devices()[:most])


def task_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis is spread over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis is spread over "data" and "fsdp"."""
    return NamedSharding(mesh, PartitionSpec(WINDOWS))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds all of it."""
    return NamedSharding(mesh, PartitionSpec())


def state_shardings(mesh: Mesh, state: Any, rules: Sequence) -> Any:
    """The sharding of each array of a state.

    Args:
      mesh: from ``make_mesh``.
      state: a pytree of arrays or of their shapes. The path of an optimizer statistic must contain
        the path of its parameter. Scalars are replicated.
      rules: pairs (pattern, mesh axis of each array axis). The first rule whose pattern is found in
        a path applies to that array.

    Returns:
      A pytree of shardings.

    Raises:
      UserError: the size of a mesh axis does not divide the array axis that is sharded over it.
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
        spec = PartitionSpec(*(_SPREADS.get(axis, axis) for axis in axes))
        for size, over in zip(leaf.shape, spec, strict=False):
            over = (over,) if isinstance(over, str) else over or ()
            if size % math.prod(mesh.shape[axis] for axis in over):
                sizes = [f"mesh.{axis}={mesh.shape[axis]}" for axis in over if mesh.shape[axis] > 1]
                raise UserError(
                    f"{' times '.join(sizes)} does not divide {name} of shape {leaf.shape}: "
                    "lower it, or change the size of the model"
                )
        return NamedSharding(mesh, spec)

    shardings = jax.tree_util.tree_map_with_path(sharding, state)
    if unused:
        raise ValueError(f"sharding rules that match nothing: {', '.join(sorted(unused))}")
    return shardings


def on_each_device(mesh: Mesh, function: Callable, num_shared: int = 0) -> Callable:
    """Maps a function over a new leading axis, which is divided equally among the devices.

    Args:
      mesh: from ``make_mesh``.
      function: from arrays to arrays.
      num_shared: how many of its first arguments are the same for all entries of that axis, and so
        do not have it.

    Returns:
      The mapped function. Its other arguments and its results have the new leading axis. A device
      with several entries computes them at once, by ``vmap``.
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
    """The same function, which knows the mesh while it is traced; to be jitted."""

    def traced(*arguments):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*arguments)

    return traced


def jit_on_mesh(mesh: Mesh, function: Callable, **options: Any) -> Callable:
    """``jax.jit`` of a function ``on_mesh``, for functions that are called in a loop.

    On a CPU that was split into several devices, a call returns only when its result is ready. An
    all-reduce blocks one thread of XLA's CPU client per device, and the client has only as many
    threads as cores. With several calls in flight, one device can hold the last thread while it
    waits for another device, which waits for a thread: a deadlock. More threads would prevent that
    too, but slow down every operator. Running one call at a time has no measurable cost.

    Args:
      mesh: from ``make_mesh``.
      function: to be jitted.
      **options: of ``jax.jit``.
    """
    jitted = jax.jit(on_mesh(mesh, function), **options)
    if mesh.size == 1 or mesh.devices.flat[0].platform != "cpu":
        return jitted
    return lambda *arguments: jax.block_until_ready(jitted(*arguments))


def traced_mesh() -> jax.sharding.AbstractMesh | None:
    """The mesh over which the function being traced may shard its arrays.

    None if it runs on one device: without a mesh, or inside ``on_each_device``.
    """
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty or mesh.manual_axes else mesh


def traced_platform() -> str:
    """What the function that is being traced will run on: "cpu", "gpu" or "tpu"."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device else jax.default_backend()


def on_one_device(function: Callable) -> Callable:
    """The same function without sharding constraints, even on a mesh; to be vmapped over tasks.

    Under vmap, the first axis that the function sees is not the axis of windows, which
    ``shard_batch`` would shard.
    """

    def traced(*arguments):
        with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
            return function(*arguments)

    return traced


def shard_batch(x: jax.Array) -> jax.Array:
    """Constrains the first axis of an array to be sharded over "data" and "fsdp", like windows.

    If parameters are sharded over "fsdp", the compiler could otherwise shard the activations in the
    same way and communicate them instead, which are many times the bytes of the parameters. It only
    has an effect in functions that are traced ``on_mesh``.
    """
    return _placed(x, WINDOWS)


def shard_steps(x_BxTx: jax.Array, *others: str | None) -> jax.Array:
    """Constrains windows to be sharded as by ``shard_batch``, and their steps over "sequence".

    Args:
      x_BxTx: [B, T, ...].
      others: mesh axes for the axes that follow; an axis without one is not sharded.
    """
    return _placed(x_BxTx, WINDOWS, SEQUENCE, *others)


def shard_heads(x_BxTxHxD: jax.Array) -> jax.Array:
    """Constrains heads to be sharded over "model" and "sequence"; steps of a window stay together.

    Changing from ``shard_steps`` to this sharding or back is one all-to-all among the devices along
    "sequence", of as many bytes as they hold (Jacobs et al., DeepSpeed Ulysses, arXiv:2309.14509).
    """
    return _placed(x_BxTxHxD, *HEADS)


def gathering(
    *axes: str | None, product: Callable[..., jax.Array] = jax.lax.dot_general
) -> Callable[..., jax.Array]:
    """A ``dot_general`` that first gathers the kernel along all mesh axes except ``axes``.

    If this is left to the compiler, a TPU multiplies by one device's share of the rows at a time,
    and reads and writes the whole result each time. The bytes moved grow with the number of devices
    that share the rows.

    Args:
      axes: the mesh axis over which each axis of the kernel stays sharded; None, or none given, for
        axes that are gathered.
      product: computes the product; it has the signature of ``jax.lax.dot_general``.
    """

    def dot_general(x: jax.Array, kernel: jax.Array, *arguments: Any, **options: Any) -> jax.Array:
        return product(x, _placed(kernel, *axes), *arguments, **options)

    return dot_general


def _placed(x: jax.Array, *axes: Any) -> jax.Array:
    if traced_mesh() is None:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*axes))


def check_windows(mesh: Mesh, size: int, name: str) -> None:
    """Raises UserError unless the devices share ``size`` windows equally."""
    parts = mesh.shape[DATA] * mesh.shape[FSDP]
    if size % parts:
        raise UserError(
            f"{name}={size} is not a multiple of the {parts} devices that share it: change it or "
            "the mesh (on a CPU, set JAX_NUM_CPU_DEVICES)"
        )


def check_memory(shapes: Any, shardings: Any) -> None:
    """Checks that each device has enough memory for its part of the arrays, if that is known.

    Args:
      shapes: a tree of anything with a shape and a dtype.
      shardings: a tree with the sharding of each.

    Raises:
      UserError: the memory is too small.
    """
    part = lambda x, sharding: math.prod(sharding.shard_shape(x.shape)) * x.dtype.itemsize
    need = sum(jax.tree.leaves(jax.tree.map(part, shapes, shardings)))
    has = _device_memory()
    if has and need > has:
        raise UserError(
            f"the model and its optimizer need {need / 2**30:.2f} GiB on each device, which has "
            f"{has / 2**30:.2f}: use more devices, and shard over them by mesh.fsdp or mesh.model"
        )


def _device_memory() -> int | None:
    """Bytes that JAX may use of a device's memory; None where it does not know."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def padded(mesh: Mesh, values: np.ndarray) -> np.ndarray:
    """Repeats the last value until the devices can share the values equally."""
    return np.pad(values, (0, -len(values) % mesh.size), mode="edge")
