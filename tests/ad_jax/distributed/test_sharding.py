import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gymnax.environments import spaces
from jax.sharding import PartitionSpec as P

from ad_jax.actions import Actions
from ad_jax.distributed import processes, sharding
from ad_jax.errors import UserError
from ad_jax.methods.optimizer import OptimizerConfig, make_optimizer
from ad_jax.methods.train_state import init_state
from ad_jax.models.base import SequenceModel
from ad_jax.models.transformer import TransformerConfig

RULES = TransformerConfig.rules


def state_shapes(optimizer="adamw", picture=None, **config):
    """Of the smallest model that the rules can shard over two devices along each axis."""
    config = TransformerConfig(width=8, num_layers=1, num_heads=2, mlp_width=16, **config)
    model = SequenceModel(config, spaces.Box(0, 3, (2,), jnp.int32), Actions.discrete(5), picture)
    optimizer = make_optimizer(OptimizerConfig(name=optimizer, warmup_steps=1), 10)
    return jax.eval_shape(lambda key: init_state(key, model, optimizer), jax.random.key(0))


def test_one_size_of_the_mesh_may_be_left_open():
    shape = lambda **sizes: tuple(sharding.make_mesh(**sizes).shape.values())
    assert sharding.make_mesh().axis_names == ("data", "fsdp", "model", "sequence")
    assert shape() == (4, 1, 1, 1)
    assert shape(data=2, fsdp=-1) == (2, 2, 1, 1)
    assert shape(fsdp=2, model=2) == (1, 2, 2, 1)
    assert shape(data=1, fsdp=1, model=4) == (1, 1, 4, 1)
    assert shape(data=1, fsdp=2, sequence=-1) == (1, 2, 1, 2)
    assert shape(devices=jax.devices()[:2]) == (2, 1, 1, 1)


@pytest.mark.parametrize(
    "sizes",
    [
        {"data": 3},
        {"data": 5},
        {"data": 0},
        {"fsdp": 3},
        {"fsdp": -1},
        {"data": 2, "model": 4},
        {"sequence": 3},
    ],
)
def test_sizes_that_do_not_multiply_to_the_devices_are_refused(sizes):
    with pytest.raises(UserError, match="do not multiply to the 4 devices"):
        sharding.make_mesh(**sizes)


def test_where_tasks_and_windows_live():
    mesh = sharding.make_mesh(data=1, fsdp=2, model=2)
    parts = lambda sharding: [
        s.data.tolist() for s in jax.device_put(np.arange(8), sharding).addressable_shards
    ]
    assert parts(sharding.task_sharding(mesh)) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert parts(sharding.batch_sharding(mesh)) == [[0, 1, 2, 3]] * 2 + [[4, 5, 6, 7]] * 2
    assert parts(sharding.replicated(mesh)) == [list(range(8))] * 4


def test_where_every_parameter_lives():
    """Oracle: the table, written out. A wrong rule changes no results, so other tests miss it."""
    share = ("fsdp", "sequence")
    block = {
        "qkv": {"kernel": P(share, None, "model", None), "bias": P(None, "model", None)},
        "out": {"kernel": P("model", None, share), "bias": P()},
        "up": {"kernel": P(share, "model"), "bias": P("model")},
        "down": {"kernel": P("model", share), "bias": P()},
        "norm_attention": {"scale": P(), "bias": P()},
        "norm_mlp": {"scale": P(), "bias": P()},
    }
    table = {"embedding": P(None, share)}
    want = {
        "embed": {
            "action": table, "is_first": table, "observation_0": table, "observation_1": table,
            "reward": {"kernel": P(None, share)}, "mask": P(),
        },
        "positions": P(None, share),
        "blocks_0": block,
        "head": {"kernel": P(share, None), "bias": P()},
    }  # fmt: skip
    mesh = sharding.make_mesh(data=1, fsdp=2, model=2)
    state = state_shapes(positions="learned", norm="post", mask="token", mask_probability=0.1)
    shardings = sharding.state_shardings(mesh, state, RULES)
    got = jax.tree.map(lambda s: s.spec, shardings)
    got.params["params"].pop("norm", None)
    assert got.params["params"] == want
    mu = optax.tree_utils.tree_get(got.opt_state, "mu")["params"]
    assert mu["blocks_0"] == block  # Adam's moments live where the parameters do
    assert got.step == P()


def test_pictures_and_muon_have_their_rules():
    picture = lambda x: jnp.zeros((*x.shape[:-1], 18, 18, 3), jnp.uint8)
    for encoder in ("pooled", "conv", "resnet"):
        state = state_shapes("muon", picture, image_encoder=encoder)
        got = sharding.state_shardings(sharding.make_mesh(data=1, fsdp=4), state, RULES).params[
            "params"
        ]
        assert got["embed"]["observation"]["kernel"].spec == P(None, ("fsdp", "sequence"))
        assert got["embed"]["ImageEncoder_0"]["out"]["kernel"].spec == P()


def test_what_has_no_rule_or_no_array_is_an_error():
    mesh, state = sharding.make_mesh(), state_shapes()
    with pytest.raises(ValueError, match=r"no sharding rule for .*head/kernel"):
        sharding.state_shardings(mesh, state, [r for r in RULES if "head" not in r[0]])
    with pytest.raises(ValueError, match="match nothing: heads/kernel"):
        sharding.state_shardings(mesh, state, [("heads/kernel", ()), *RULES])
    with pytest.raises(UserError, match=r"mesh\.model=4 does not divide .*out.*\(2, 4, 8\)"):
        sharding.state_shardings(sharding.make_mesh(data=1, model=4), state, RULES)
    narrow = {"embedding": jax.ShapeDtypeStruct((4, 6), jnp.float32)}
    both, rules = sharding.make_mesh(data=1, fsdp=2, sequence=2), [("embedding", (None, "fsdp"))]
    with pytest.raises(UserError, match=r"^mesh\.fsdp=2 times mesh\.sequence=2 does not"):
        sharding.state_shardings(both, narrow, rules)


def test_every_device_runs_its_own():
    mesh = sharding.local_mesh(4)
    double = sharding.on_each_device(mesh, lambda a, b: {"sum": a + b.sum(), "b": 2 * b}, 1)
    got = jax.jit(double)(np.float32(1), np.arange(8.0).reshape(4, 2))
    np.testing.assert_array_equal(got["sum"], [2, 6, 10, 14])
    np.testing.assert_array_equal(got["b"], 2 * np.arange(8.0).reshape(4, 2))
    assert len(got["b"].sharding.device_set) == 4
    two_each = np.arange(16.0).reshape(8, 2)
    got = jax.jit(double)(np.float32(1), two_each)
    np.testing.assert_array_equal(got["sum"], 1 + two_each.sum(1))
    np.testing.assert_array_equal(got["b"], 2 * two_each)


def test_sizes_that_do_not_divide_are_refused():
    mesh = sharding.make_mesh(data=1, fsdp=2, model=2)
    sharding.check_windows(mesh, 6, "train.batch_size")
    with pytest.raises(UserError, match=r"train\.batch_size=7.*2 devices"):
        sharding.check_windows(mesh, 7, "train.batch_size")


def test_what_does_not_fit_a_device_says_what_it_takes(monkeypatch):
    shapes, mesh = state_shapes(), sharding.make_mesh(data=1, fsdp=2, model=2)
    spread = sharding.state_shardings(mesh, shapes, RULES)
    everywhere = jax.tree.map(lambda _: sharding.replicated(mesh), shapes)
    whole = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))
    sharding.check_memory(shapes, everywhere)  # a CPU does not say how much it has
    monkeypatch.setattr(sharding, "_device_memory", lambda: whole - 1)
    sharding.check_memory(shapes, spread)
    with pytest.raises(UserError, match=r"need 0.00 GiB on each device.*mesh.fsdp"):
        sharding.check_memory(shapes, everywhere)


def test_tasks_are_padded_with_the_last_one():
    mesh = sharding.make_mesh()
    padded = sharding.padded(mesh, np.array([3, 5, 7, 9, 11]))
    assert padded.tolist() == [3, 5, 7, 9, 11, 11, 11, 11]
    assert sharding.padded(mesh, np.arange(4)).tolist() == [0, 1, 2, 3]


SRUN = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "a", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, (0, 1)),
        ({**SRUN, "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, (0, 1)),
        ({**SRUN, "SLURM_PROCID": "2", "SLURM_NTASKS": "3"}, (2, 3)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}, (0, 1)),  # no srun
        ({"SLURM_NTASKS": "4"}, (0, 1)),
        ({**SRUN, "SLURM_PROCID": "", "SLURM_NTASKS": ""}, (0, 1)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, (1, 2)),
        ({"TPU_WORKER_ID": "", "TPU_WORKER_HOSTNAMES": ""}, (0, 1)),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, (0, 1)),  # not on a TPU
        ({"JAX_COORDINATOR_ADDRESS": "", "JAX_PROCESS_ID": "1"}, (0, 1)),
        (
            {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_PROCESS_ID": "1", "JAX_NUM_PROCESSES": "2"},
            (1, 2),
        ),
    ],
)
def test_every_launcher_says_which_process_this_is(monkeypatch, variables, place):
    for name in [n for n in os.environ if n.startswith(("SLURM_", "OMPI_", "TPU_", "JAX_COORD"))]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processes.process_index_and_count() == place


@pytest.mark.parametrize(
    "tasks, node, local, on_node, visible, devices",
    [
        ("1", "0", "0", "4", "0,1,2,3", [0, 1, 2, 3]),  # one process for a node
        ("4", "0", "2", "4", "0,1,2,3", [2]),
        ("2", "0", "1", "4", "0,1,2,3", [2, 3]),
        ("2", "0", "0", "3", "4,5,6", [0, 1]),
        ("2(x3),1", "3", "0", "2", "0,1", [0, 1]),
        ("2", "0", "1", "4", "2,3", [0, 1]),  # bound by --gpus-per-task
        ("2", "0", "1", "", "", None),
    ],
)
def test_processes_of_a_node_share_its_gpus_under_slurm(
    tasks, node, local, on_node, visible, devices
):
    variables = {
        "SLURM_STEP_TASKS_PER_NODE": tasks, "SLURM_NODEID": node, "SLURM_LOCALID": local,
        "SLURM_GPUS_ON_NODE": on_node, "CUDA_VISIBLE_DEVICES": visible,
    }  # fmt: skip
    assert processes.slurm_devices(variables) == devices


def test_more_processes_than_gpus_are_refused_under_slurm():
    variables = {
        "SLURM_STEP_TASKS_PER_NODE": "3(x2)", "SLURM_LOCALID": "0", "SLURM_GPUS_ON_NODE": "2",
        "CUDA_VISIBLE_DEVICES": "0,1",
    }  # fmt: skip
    with pytest.raises(UserError, match="3 processes can't share the 2 GPUs of a node: give"):
        processes.slurm_devices(variables)
    assert processes.slurm_devices({**variables, "JAX_PLATFORMS": "cpu"}) is None


def test_workers_of_a_tpu_vm_find_each_other(monkeypatch):
    monkeypatch.setattr(processes.cloud_tpu_init, "running_in_cloud_tpu_vm", True)
    monkeypatch.setenv("TPU_WORKER_ID", "3")
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "a,b,c,d")
    assert processes.process_index_and_count() == (3, 4)
    monkeypatch.setenv("TPU_WORKER_ID", "x")
    with pytest.raises(UserError, match="TPU_WORKER_ID=x is not a number: unset it to run alone"):
        processes.process_index_and_count()


def test_a_failed_start_leaves_no_watchdog(monkeypatch):
    def refuse(**_):
        raise ValueError("coordinator_address should be defined.")

    for name, value in {"ADDRESS": "a:1", "NUM": "2", "ID": "0"}.items():
        whole = {"ADDRESS": "COORDINATOR_ADDRESS", "NUM": "NUM_PROCESSES", "ID": "PROCESS_ID"}
        monkeypatch.setenv(f"JAX_{whole[name]}", value)
    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    with pytest.raises(UserError, match=r"to run alone, unset .*JAX_COORDINATOR_ADDRESS"):
        processes.start()
    timers = [t for t in threading.enumerate() if isinstance(t, threading.Timer)]
    assert all(timer.finished.is_set() for timer in timers)


def test_half_of_what_joining_needs_is_refused(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    monkeypatch.delenv("JAX_PROCESS_ID", raising=False)
    with pytest.raises(UserError, match="JAX_PROCESS_ID"):
        processes.process_index_and_count()


@pytest.mark.parametrize(
    ("cores", "variables", "devices"),
    [(1, {}, 1), (3, {}, 2), (64, {}, 4), (2, {"JAX_NUM_CPU_DEVICES": "1"}, 1)],
)
def test_a_cpu_is_a_device_for_each_core(cores, variables, devices):
    program = (
        f"import os; os.sched_getaffinity = lambda pid: range({cores});"
        "from ad_jax.distributed import processes; processes.split_cpu();"
        "import jax; print(jax.device_count())"
    )
    dropped = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
    environment = {k: v for k, v in os.environ.items() if k not in dropped}
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, text=True, capture_output=True,
        env=environment | variables | {"JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.stdout.split() == [str(devices)]


def test_thousands_of_steps_on_a_split_cpu_do_not_hang():
    """Without waiting for each call, they hung within seconds: with as many devices as the pool has
    threads, the all-reduces of two calls waited for each other."""
    dropped = ("XLA_FLAGS", "PJRT_NPROC", "JAX_DISABLE_MOST_OPTIMIZATIONS")
    environment = {k: v for k, v in os.environ.items() if k not in dropped}
    cores = str(max(2, len(os.sched_getaffinity(0))))
    done = subprocess.run(
        [sys.executable, "-m", "tests.ad_jax.distributed.stress"], text=True, timeout=120,
        env=environment | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": cores},
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "3000 steps" in done.stdout
