"""The processes of a run: how they start, find and wait for each other."""

import contextlib
import math
import os
import sys
import threading
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax._src import cloud_tpu_init
from jax.experimental import multihost_utils

from ad_jax.errors import UserError

JOIN_SECONDS = 300  # how long processes wait for each other at the start
HEARTBEAT_SECONDS = 100  # how long it takes to notice that a process has died
LEAVE_SECONDS = 5  # how long a process that failed waits for the others to end as well
# For SLURM and Open MPI: the environment variables with a process's index and the number of
# processes, then any others that JAX needs to connect them. srun sets all of SLURM's; in an
# interactive shell some are missing.
_LAUNCHERS = (
    ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_LOCALID"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
)
_PREFIXES = ("SLURM_", "OMPI_", "TPU_WORKER_", "JAX_COORDINATOR_")
_FAILED = -1  # an answer of ``first_decides``
MAX_CPU_DEVICES = 4  # made by default; every preset's batch can be divided among that many


def start(absent: Callable[[], list[int]] | None = None) -> None:
    """Connects the processes of a run, if there are several. Call it before JAX's backend starts.

    Under SLURM, Open MPI and on TPU pods, JAX finds the other processes by itself. Elsewhere, set
    JAX_COORDINATOR_ADDRESS (host:port of the first process), JAX_NUM_PROCESSES and JAX_PROCESS_ID.
    AD_JAX_TIMEOUT, in seconds, overrides ``JOIN_SECONDS`` and ``HEARTBEAT_SECONDS``. If some
    processes are still missing after that time, this one exits with status 1. Under SLURM, the
    processes of a node share its GPUs, unless JAX_LOCAL_DEVICE_IDS is set.

    A run with a single process splits a CPU into several devices; see ``split_cpu``.

    Args:
      absent: returns the numbers of the processes that were not started, where that is known.

    Raises:
      UserError: the variables are incomplete, wrong or contradict each other, or a node has more
        processes than GPUs.
    """
    number, count = process_index_and_count()
    address = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if count == 1 and not address:
        split_cpu()
        return
    given = {}
    if address:
        given = {"coordinator_address": address, "num_processes": count, "process_id": number}
    elif "JAX_LOCAL_DEVICE_IDS" not in os.environ:
        given = {"local_device_ids": slurm_devices(os.environ)}
    seconds = join_seconds()
    # JAX's own timeout aborts the process with a stack trace.
    where = address or "the cluster's first host"
    who = f"process {number} of {count} waited {seconds} s at {where}"
    watchdog = threading.Timer(seconds, _give_up, [who, absent])
    watchdog.daemon = True
    watchdog.start()
    try:
        jax.distributed.initialize(
            **given,
            initialization_timeout=2 * seconds,
            heartbeat_timeout_seconds=_seconds(HEARTBEAT_SECONDS),
        )
    except ValueError as error:  # JAX's detection found less than ``process_index_and_count``
        names = ", ".join(sorted(n for n in os.environ if n.startswith(_PREFIXES)))
        raise UserError(
            f"the environment variables announce {count} processes, but JAX can't connect them "
            f"({error}): to run alone, unset {names}"
        ) from error
    finally:
        watchdog.cancel()


def join_seconds() -> int:
    """How long processes wait for each other.

    Raises:
      UserError: AD_JAX_TIMEOUT is not a number of seconds.
    """
    return _seconds(JOIN_SECONDS)


def _seconds(usual: int) -> int:
    given = os.environ.get("AD_JAX_TIMEOUT") or str(usual)
    if not given.isdecimal() or not int(given):
        raise UserError(f"AD_JAX_TIMEOUT={given} is not a number of seconds: give 1 or more")
    return int(given)


def process_index_and_count() -> tuple[int, int]:
    """(index of this process, number of processes), as the launcher set them; (0, 1) if alone.

    Raises:
      UserError: variables are missing, or are not numbers.
    """
    said = {name: value for name, value in os.environ.items() if value}
    if "JAX_COORDINATOR_ADDRESS" in said:
        try:
            return int(said["JAX_PROCESS_ID"]), int(said["JAX_NUM_PROCESSES"])
        except (KeyError, ValueError) as error:
            raise UserError(
                "JAX_COORDINATOR_ADDRESS is set: also set JAX_NUM_PROCESSES and JAX_PROCESS_ID to "
                f"numbers ({error})"
            ) from error
    for names in _LAUNCHERS:
        if all(name in said for name in names):
            number, count = (_number(said, name) for name in names[:2])
            return (number, count) if count > 1 else (0, 1)
    if not cloud_tpu_init.running_in_cloud_tpu_vm:
        return 0, 1
    workers = said.get("TPU_WORKER_HOSTNAMES", "").split(",")
    return _number({"TPU_WORKER_ID": "0", **said}, "TPU_WORKER_ID"), len(workers)


def slurm_devices(variables: Mapping[str, str]) -> list[int] | None:
    """The GPUs of this process under SLURM, as indices into CUDA_VISIBLE_DEVICES.

    By default, JAX gives each process one GPU, however many there are. Here the processes of a node
    divide all of its GPUs among themselves; if they do not divide evenly, the first processes take
    one more. If SLURM has bound GPUs to each process (--gpus-per-task), it takes all it can see.

    Args:
      variables: the environment variables.

    Returns:
      The indices; None if there are no GPUs to share, so that JAX may choose.

    Raises:
      UserError: there are more processes than GPUs.
    """
    names = "SLURM_LOCALID", "SLURM_GPUS_ON_NODE", "CUDA_VISIBLE_DEVICES"
    if not all(variables.get(name) for name in names) or variables.get("JAX_PLATFORMS") == "cpu":
        return None
    local, on_node = (_number(variables, name) for name in names[:2])
    visible = len(variables["CUDA_VISIBLE_DEVICES"].split(","))
    if visible < on_node:
        return list(range(visible))
    here = _tasks_here(variables)
    if here > visible:
        raise UserError(
            f"{here} processes can't share the {visible} GPUs of a node: give "
            f"--ntasks-per-node={visible} or fewer, or set JAX_PLATFORMS=cpu"
        )
    share, more = divmod(visible, here)
    first = local * share + min(local, more)
    return list(range(first, first + share + (local < more)))


def _tasks_here(variables: Mapping[str, str]) -> int:
    """How many tasks of the step run on this node; SLURM says 2(x3),1 for 2, 2, 2 and 1."""
    nodes: list[int] = []
    for part in (variables.get("SLURM_STEP_TASKS_PER_NODE") or "1").split(","):
        tasks, _, times = part.rstrip(")").partition("(x")
        nodes += [int(tasks)] * int(times or 1)
    return nodes[_number({"SLURM_NODEID": "0", **variables}, "SLURM_NODEID")]


def _number(variables: Mapping[str, str], name: str) -> int:
    try:
        return int(variables[name])
    except ValueError as error:
        raise UserError(
            f"{name}={variables[name]} is not a number: unset it to run alone"
        ) from error


def split_cpu() -> None:
    """Splits the CPU into devices: one per core, up to ``MAX_CPU_DEVICES``, and a power of two.

    XLA runs most operators on a single core; with several devices, more cores are used.
    JAX_NUM_CPU_DEVICES and XLA's own flag take precedence. On other platforms it has no effect.
    """
    asked = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    given = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    if given == -1 and not asked:
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        devices = 2 ** int(math.log2(min(cores, MAX_CPU_DEVICES)))
        jax.config.update("jax_num_cpu_devices", devices)


def _give_up(who: str, absent: Callable[[], list[int]] | None) -> None:
    text = "not all of the others connected: check whether they were started and can reach it"
    with contextlib.suppress(Exception):  # a file is gone, a store is away
        if missing := absent and absent():
            numbers = ", ".join(map(str, missing))
            text = f"these processes were not started: {numbers}; check why"
        elif absent:
            text = "all of the others were started but not all have reached it: check their logs"
    print(f"error: {who}, but {text}", file=sys.stderr, flush=True)
    os._exit(1)


def is_first() -> bool:
    """Whether this is process 0, which writes all files that only one process may write."""
    return jax.process_index() == 0


def first_decides(question: Callable[[], bool]) -> bool:
    """Calls a function on process 0 and returns its answer on every process.

    Args:
      question: called on process 0 only. An exception that it raises is raised there.

    Raises:
      UserError: on the other processes, if process 0 raised something.
    """
    if jax.process_count() == 1:
        return question()
    answer, error = _FAILED, None
    if is_first():
        try:
            answer = int(question())
        except Exception as raised:  # the others must not wait for ever
            error = raised
    told = int(multihost_utils.broadcast_one_to_all(np.int32(answer)))
    if error:
        raise error
    if told == _FAILED:
        raise UserError("process 0 failed: see its error message")
    return bool(told)


def first_does(work: Callable[[], None]) -> None:
    """Calls a function on process 0 only; the other processes wait, and raise if it fails.

    Raises:
      UserError: on the other processes, if process 0 raised something.
    """

    def done() -> bool:
        work()
        return True

    first_decides(done)


def leave(said: str) -> None:
    """Disconnects from the other processes before this one ends with an error.

    The error may be in this process only. JAX would then wait at exit, for minutes, for the
    processes that are still running, and abort. If the others do not end within ``LEAVE_SECONDS``,
    this process exits here with status 1, and the others notice after ``HEARTBEAT_SECONDS``.

    Args:
      said: the error message, which is printed if the process exits here.
    """
    if jax.process_count() == 1:
        return
    parting = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    parting.start()
    parting.join(LEAVE_SECONDS)
    if parting.is_alive():
        print(said, file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)


def barrier(name: str) -> None:
    """Waits until all processes have reached this point."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
