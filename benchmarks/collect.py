"""Collection: our PPO and that of other libraries learn goals of Dark Room; returns are checked.

Stable-Baselines3 is installed by the extra "bench". rejax needs a virtual environment of its own,
whose Python interpreter REJAX_PYTHON names.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from ad_jax.distributed import sharding
from ad_jax.envs import dynamic_programming, registry
from ad_jax.sources import networks
from ad_jax.sources.ppo import PPOConfig, ppo
from benchmarks import peers
from benchmarks.timing import Candidate, compare

STREAMS, ROLLOUT = 32, 20
ONE = 20  # the goal (2, 2), 4 moves from the centre
# Updates in a round: on one goal, on all goals.
UPDATES = {"ad_jax": (100, 20), "rejax": (100, 20), "Stable-Baselines3": (10, 10)}
LEARNED, LONG = 0.9, 5  # the fraction of the optimum to reach, and within how many rounds
REJAX = os.environ.get("REJAX_PYTHON", ".venv-rejax/bin/python")
STABLE_BASELINES3 = "Stable-Baselines3", "stable_baselines3"
EQUAL = (
    "PPO; streams, rollout, epochs, one minibatch, learning rate, MLP, one-hot input, float32; all "
    "go on learning from round to round; freed memory kept, states donated where JAX has them"
)
LEFT_OUT = {
    "purejaxrl": "no such package on the registry; rejax is PPO in one jitted function, too",
}


class Learner(NamedTuple):
    """A library's PPO that learns goals.

    Attributes:
      work: continues learning.
      steps: environment steps in one call of ``work``.
      returns: ``returns()``, the returns of its last episodes, float [goals].
      goals: ids of the goals.
      facts: see ``Candidate``.
    """

    work: Callable[[], object]
    steps: int
    returns: Callable[[], np.ndarray]
    goals: np.ndarray
    facts: dict[str, Any]


def run(rounds: int) -> list[dict[str, Any]]:
    """Env steps per second, of all goals at once and of one goal.

    Raises:
      RuntimeError: ours did not learn.
    """
    with contextlib.ExitStack() as running:
        return _run(rounds, running)


def _run(rounds: int, running: contextlib.ExitStack) -> list[dict[str, Any]]:
    """Peers are in processes that end with ``running``."""
    env, tasks = registry.make("DarkRoom")
    every = np.arange(tasks.num_tasks)
    learners, left_out = {}, LEFT_OUT | peers.missing(*STABLE_BASELINES3)
    for goals in (every, every[[ONE]]):
        many = len(goals) > 1
        what = f"PPO, MLP 32, {len(goals)} task{'s' * many} x {STREAMS} streams"
        learners[ours := f"ad_jax: {what}"] = _ours(goals, {"beside": None})
        if many:
            learners["the same, the network at every step"] = _ours(goals, {}, max_table=0)
        shared = {"beside": ours, "fair": True, "equal": EQUAL}
        if pathlib.Path(REJAX).exists():
            learners[f"rejax: {what}"] = _rejax(goals, tasks.params(goals).goal, shared, running)
        else:
            left_out["rejax"] = "not installed: make .venv-rejax/installed"
        if not peers.missing(*STABLE_BASELINES3):
            what = what if not many else f"PPO, MLP 32, 1 task x {STREAMS} streams, on each core"
            learners[f"Stable-Baselines3: {what}"] = _stable_baselines3(many, shared, running)

    candidates = {n: Candidate(one.work, one.steps, one.facts) for n, one in learners.items()}
    rows = compare("collect", "env steps", candidates, rounds)
    optimum = jax.vmap(lambda p: dynamic_programming.optimal_return(env, p))(tasks.params(every))
    for row, one in zip(rows, learners.values(), strict=True):
        row["worst_return_of_optimum"] = float((one.returns() / optimum[one.goals]).min())
        if row["worst_return_of_optimum"] < LEARNED and rounds >= LONG:
            if "peer" not in row:
                raise RuntimeError(f"the learner did not learn: {row}")
            row["fair"] = False  # it has not done the same work
    return [*rows, *peers.left_out("collect", left_out)]


def _steps(library: str, goals: int) -> tuple[int, int]:
    """Updates, and env steps, in a round."""
    updates = UPDATES[library][goals > 1]
    return updates, updates * goals * STREAMS * ROLLOUT


def _ours(goals: np.ndarray, facts: dict[str, Any], max_table: int = networks.MAX_TABLE) -> Learner:
    """As in a run, tasks are spread over the devices, so a single task uses one device."""
    env, tasks = registry.make("DarkRoom")
    mesh = sharding.local_mesh(len(goals))
    ids = sharding.padded(mesh, goals)
    keys = jax.random.split(jax.random.key(0), len(ids))
    tiles = jax.tree.map(
        lambda x: x.reshape(mesh.size, -1, *x.shape[1:]), (keys, tasks.params(ids))
    )
    tiles = jax.device_put(tiles, sharding.task_sharding(mesh))  # a tile is the work of a device
    default, networks.MAX_TABLE = networks.MAX_TABLE, max_table
    source = ppo(env, PPOConfig(num_streams=STREAMS, rollout_steps=ROLLOUT))
    networks.MAX_TABLE = default
    step = jax.vmap(source.step)
    updates, steps = _steps("ad_jax", len(goals))

    def learn(state):
        state, blocks = jax.lax.scan(lambda s, _: step(s), state, length=updates)
        return state, blocks.reward.sum(-1)[-1].mean(-1)

    on_each = lambda function: sharding.on_each_device(mesh, function)
    box = {"state": jax.jit(on_each(jax.vmap(source.init)))(*tiles)}
    advance = jax.jit(on_each(learn), donate_argnums=0)

    def work():
        box["state"], box["return"] = jax.block_until_ready(advance(box["state"]))

    last = lambda: np.asarray(box["return"]).ravel()[: len(goals)]
    return Learner(work, steps, last, goals, {**facts, "setting": {"devices": mesh.size}})


def _rejax(
    goals: np.ndarray, places: np.ndarray, shared: dict[str, Any], running: contextlib.ExitStack
) -> Learner:
    updates, steps = _steps("rejax", len(goals))
    begin = ("benchmarks.peers.rejax_ppo", STREAMS, updates, *np.ravel(places))
    ask = running.enter_context(peers.start(*begin, python=REJAX))
    facts = {
        **shared, **peers.facts(ask), "peer": "rejax",
        "differs": "the end of an episode by its time limit counts as terminal; gradients are "
        "clipped component by component",
    }  # fmt: skip
    returns = lambda: np.array(json.loads(ask("return")))
    return Learner(lambda: ask("work"), steps, returns, goals, facts)


def _stable_baselines3(
    on_each_core: bool, shared: dict[str, Any], running: contextlib.ExitStack
) -> Learner:
    """It learns one goal at a time: several are learned side by side in processes of their own."""
    cores = len(os.sched_getaffinity(0))
    processes, threads = (cores, 1) if on_each_core else (1, cores)
    pool = running.enter_context(concurrent.futures.ThreadPoolExecutor(processes))
    updates, steps = _steps("Stable-Baselines3", 1)
    module = "benchmarks.peers.stable_baselines3"
    begin = lambda _: running.enter_context(peers.start(module, STREAMS, updates, threads))
    asks = list(pool.map(begin, range(processes)))
    all_answer = lambda question: list(pool.map(lambda ask: ask(question), asks))
    facts = {
        **shared, **peers.facts(*asks), "peer": "Stable-Baselines3",
        "differs": "Python between the steps" + "; one goal for each process" * on_each_core,
    }  # fmt: skip
    facts["setting"] |= {"processes": processes}
    return Learner(
        lambda: all_answer("work"), steps * processes,
        lambda: np.array([float(answer) for answer in all_answer("return")]),
        np.full(processes, ONE), facts,
    )  # fmt: skip
