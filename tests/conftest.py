"""Four simulated CPU devices for every test, so that sharding is real.

JAX_PLATFORMS=cuda runs them on GPUs instead. With a single GPU, tests of several devices fail.
Tests of float32 fail on GPUs that round matrix products to TensorFloat-32.

Most programs take longer to compile than to run. So they are compiled without most optimisations
and with the flags that make XLA compile fastest, and those that several tests need, in this process
or in one that they start, are compiled only once. JAX_DISABLE_MOST_OPTIMIZATIONS=0 compiles them as
for users. JAX_COMPILATION_CACHE_DIR=DIR keeps them for the next time.
"""

import atexit
import os
import pathlib
import shutil
import signal
import tempfile

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # the process that starts the others
    CACHE = tempfile.mkdtemp(prefix="ad_jax_tests_")
    atexit.register(shutil.rmtree, CACHE, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = CACHE
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "1":
    os.environ["XLA_FLAGS"] = (
        "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    )

import jax
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also for processes that tests start

# Prefixes of the ids of tests that take more than about two seconds: `-m "not slow"` leaves them
# out.
SLOW = tuple((pathlib.Path(__file__).parent / "slow.txt").read_text().split())

jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS", "cpu"))
jax.config.update("jax_num_cpu_devices", 4)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.nodeid.startswith(SLOW):
            item.add_marker("slow")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """A bucket in a stand-in for a store: (its path, the folder in which its objects are)."""
    from tests.store import stand_in  # here: it starts JAX's backend

    root = tmp_path_factory.mktemp("stores")
    with stand_in(root):
        yield "gs://bucket", root / "bucket"
