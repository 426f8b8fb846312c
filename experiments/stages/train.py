"""Stage 2: models are trained by a method of ``ad_jax.methods``."""

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from ad_jax import build, checkpoint
from ad_jax.checkpoint import Checkpoints
from ad_jax.distributed import processes, sharding
from ad_jax.errors import UserError
from ad_jax.interfaces import Method
from ad_jax.methods.optimizer import describe_partition
from ad_jax.methods.train_state import TrainState
from ad_jax.models.tokens import with_scales
from data_pipelines import windows
from data_pipelines.reader import Histories, Selection
from experiments.runtime.interruption import Interrupted, Interruption
from experiments.runtime.metrics import Means, Metrics
from experiments.runtime.profile import Profile
from experiments.runtime.seeds import Seeds
from experiments.runtime.workdir import Folders, Workdir
from experiments.stages import evaluate


def done(config: ml_collections.ConfigDict, workdir: Folders) -> bool:
    """Whether the last training step is in a checkpoint."""
    found = checkpoint.newest(workdir.checkpoints)
    return found is not None and found["step"] == config.train.steps


def run(config: ml_collections.ConfigDict, workdir: Workdir, interruption: Interruption) -> None:
    """Trains from the newest checkpoint, or from scratch if there is none.

    Raises:
      UserError: the data, the mesh or the checkpoint do not suit the config, or the loss, the
        gradient or a reward is NaN or infinite.
      Interrupted: after a signal, once the state is saved.
    """
    mesh = sharding.make_mesh(**config.mesh)
    world = build.world(config)
    seeds = Seeds(config, mesh)
    method, learning_rate = build.method(config, world), build.learning_rates(config)
    feed = FEEDS[build.method_spec(config).reads](config, workdir, world)
    checkpoints = Checkpoints(workdir.checkpoints)

    first = [(build.key(config, "initialise", s), *feed.first(s)) for s in seeds.slots]

    def init(key: jax.Array, *first: Any) -> TrainState:
        state = method.init(key, feed.example(*first))
        return state.replace(params=feed.measured(state.params))

    shapes = jax.eval_shape(init, *first[0])
    shardings = seeds.shardings(shapes, build.sharding_rules(config))
    state = seeds.init(init, first, shardings)
    if processes.is_first():
        print(f"train: {describe_partition(build.optimizer(config), shapes.params)} parameters")
    first_step = 0
    before: dict[str, Any] = {"seconds": 0.0, "transitions_per_s": 0.0}  # in earlier processes
    if (newest := checkpoints.latest_step()) is not None:
        stored, before = checkpoints.restore(newest, seeds.to_store(state))
        state = seeds.from_store(stored)
        first_step = newest
        if processes.is_first():
            print(f"train: resuming from step {first_step}")

    every = config.train.evaluate_every
    probe = evaluate.make_probe(config, world, method, mesh) if every else None
    update = make_step(config, mesh, method, feed, seeds, shardings)
    batches = zip(*(feed.inputs(seed, first_step) for seed in seeds.slots), strict=True)
    log = None
    if processes.is_first():
        log = Metrics(config, workdir, seeds.numbers, first_step)
    pending: list[tuple[int, dict[str, jax.Array]]] = []  # of the steps not fetched yet
    means = Means(before.get("means"))  # over the steps not logged yet
    began = first_done = time.perf_counter()
    tokens = method.transitions * len(seeds.numbers)

    def fetch() -> None:
        """Fetches the metrics of the steps since the last call; raises if one is not finite."""
        steps = [step for step, _ in pending]
        for step, metrics in zip(steps, seeds.fetch([m for _, m in pending]), strict=True):
            means.add(metrics)
            check_rewards(metrics, step)
            for name in ("loss", "grad_norm"):  # a step with a bad gradient spoils the parameters
                for seed, value in zip(seeds.numbers, metrics[name], strict=True):
                    if not math.isfinite(value):
                        good = checkpoints.latest_step()
                        raise UserError(
                            f"{name} is {value} at training step {step} of seed {seed}; the last "
                            "good checkpoint is "
                            f"{'none' if good is None else f'{workdir.checkpoints}/{good}'}: "
                            "lower optimizer.learning_rate, in another workdir"
                        )
        pending.clear()

    def save(step: int) -> None:
        fetch()
        if log:  # before the checkpoint: training that goes on from it has all metrics up to it
            log.publish()
        seconds = before["seconds"] + time.perf_counter() - began
        stored = seeds.to_store(state)
        costs = {"seconds": seconds, "transitions_per_s": rate(step)}
        checkpoints.save(step, stored, {**costs, "means": means.stored()})

    def rate(step: int) -> float:
        """Transitions per second in this process, without compiling the first step."""
        if step == first_step + 1:
            return before["transitions_per_s"]
        return (step - first_step - 1) * tokens / (time.perf_counter() - first_done)

    step = first_step
    with (
        tqdm(
            desc="train", unit=" tokens", unit_scale=True, mininterval=1,
            total=config.train.steps * tokens, initial=first_step * tokens,
            disable=not processes.is_first(),
        ) as progress,
        contextlib.closing(log) if log else contextlib.nullcontext(),
        contextlib.closing(checkpoints),
        contextlib.closing(Profile(workdir.profile, first_step)) as profile,
    ):  # fmt: skip
        for step in range(first_step + 1, config.train.steps + 1):
            profile.before(step, state)
            inputs = sharding.put(seeds.stack(next(batches)), seeds.inputs_sharding())
            with jax.transfer_guard("disallow"):
                state, metrics = update(state, inputs)
            pending.append((step, metrics))
            if step == first_step + 1:
                jax.block_until_ready(state)
                first_done = time.perf_counter()
            last = step == config.train.steps
            stop = interruption.requested and not last  # read once: it may change at any time
            if step % config.train.log_every == 0 or last:
                fetch()
                row = means.take()
                if probe and step % every == 0:
                    paused = time.perf_counter()
                    row |= probe(seeds.models(state.params))
                    first_done += time.perf_counter() - paused  # no training, for the rate
                lr = float(learning_rate(step - 1))
                if log:
                    log.write(step, row, {"learning_rate": lr, "transitions_per_s": rate(step)})
                progress.set_postfix(loss=f"{row['loss'].mean():.4f}", refresh=False)
            progress.update(tokens)
            if step % config.train.checkpoint_every == 0 or last or stop:
                save(step)
            if stop:
                raise Interrupted


def check_rewards(metrics: dict[str, np.ndarray], step: int) -> None:
    """Refuses rewards that are NaN or infinite, for methods that act in the tasks themselves.

    Args:
      metrics: of one step, float [seed] each.
      step: its number.

    Raises:
      UserError: ``trial_reward`` is there and not finite.
    """
    if not np.isfinite(metrics.get("trial_reward", 0.0)).all():
        raise UserError(
            f"the environment gave rewards that are NaN or infinite at training step {step}: "
            "fix the environment"
        )


class Feed(NamedTuple):
    """The inputs of a method's updates, apart from the state.

    Attributes:
      first: ``first(seed)``, arrays for ``example``.
      example: ``example(*first)``, inside jit: the example for ``Method.init``.
      measured: ``measured(params)``, initial parameters with the data's statistics filled in.
      data: arrays that the updates of all seeds share.
      inputs: ``inputs(seed, first_step)``, host arrays for each update after ``first_step``.
      batch: ``batch(data, inputs)``, what an update learns from, inside jit.
    """

    first: Callable[[int], tuple[Any, ...]]
    example: Callable[..., Any]
    measured: Callable[[Any], Any]
    data: Any
    inputs: Callable[[int, int], Iterator]
    batch: Callable[[Any, Any], Any]


def window_feed(config: ml_collections.ConfigDict, workdir: Workdir, world: build.World) -> Feed:
    """Windows of the histories in a workdir.

    Raises:
      UserError: the histories do not suit the config.
    """
    options = config.train
    histories = Histories(workdir.histories)
    build.check_version(world.env, histories.provenance)
    schema = histories.schema
    trained_on = frozenset(world.train.tolist())
    if not trained_on & set(histories.task.tolist()):
        raise UserError(
            f"{workdir.histories} holds no training tasks: collect with collect.tasks='train'"
        )
    most = np.unique(histories.task, return_counts=True)[1].max()
    if options.keep_streams is not None and options.keep_streams > most:
        raise UserError(
            f"train.keep_streams={options.keep_streams}: {workdir.histories} has {most} per task"
        )
    selection = Selection(
        options.keep_every, options.keep_streams, options.keep_begin, options.keep_end, trained_on
    )
    scales = histories.provenance.get("statistics", {}) if config.model.normalize else {}
    if config.model.normalize and not scales:
        raise UserError(
            f"model.normalize: {workdir.histories} is from an older version, without statistics: "
            "collect or convert them again in another workdir"
        )
    with build.named_by_key({"context": "model.context"}):
        of_first = windows.make_sampler(
            histories, selection=selection, context=config.model.context,
            batch_size=options.batch_size, seed=config.seed,
        )  # fmt: skip
    sampler = lambda seed: dataclasses.replace(of_first, seed=seed)
    if options.windows == "device":
        source = windows.DeviceWindows(histories, of_first, selection)
        arrays, cut = source.arrays, source.cut

        def inputs(seed: int, first_step: int):
            return map(sampler(seed).starts, range(first_step, options.steps))

    else:
        arrays, cut = (), lambda arrays, raw: raw

        def inputs(seed: int, first_step: int):
            return windows.disk_windows(
                histories, sampler(seed), selection, first_step, options.prefetch
            )

    return Feed(
        first=lambda seed: (windows.make_reader(histories, sampler(seed), selection)(0),),
        example=lambda raw: windows.to_batch(schema, raw),
        measured=lambda params: with_scales(params, scales) if scales else params,
        data=arrays,
        inputs=inputs,
        batch=lambda arrays, inputs: windows.to_batch(schema, cut(arrays, inputs)),
    )


def no_feed(config: ml_collections.ConfigDict, workdir: Workdir, world: build.World) -> Feed:
    """Nothing: the method acts in the tasks itself."""
    del config, workdir, world
    return Feed(
        first=lambda seed: (),
        example=lambda: (),
        measured=lambda params: params,
        data=(),
        inputs=lambda seed, first_step: itertools.repeat(()),
        batch=lambda data, inputs: (),
    )


def make_step(
    config: ml_collections.ConfigDict, mesh: Mesh, method: Method, feed: Feed, seeds: Seeds,
    shardings: Any,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:  # fmt: skip
    """The jitted ``step(state, inputs) -> (state, metrics)`` of all models.

    Args:
      config: of the run.
      mesh: of all its devices.
      method: how the models are trained.
      feed: the inputs of the method.
      seeds: of the models.
      shardings: of the models' state.
    """
    replicated = sharding.replicated(mesh)
    keys = seeds.stack([build.key(config, "train", seed) for seed in seeds.slots])
    keys = sharding.put(keys, replicated)
    data = sharding.put(feed.data, replicated)
    out = shardings, seeds.metrics_sharding()

    def update(data, state, key, inputs):
        return method.update(state, feed.batch(data, inputs), key)

    update = seeds.of_all(update, num_shared=1)
    step = sharding.jit_on_mesh(mesh, update, donate_argnums=1, out_shardings=out)
    return lambda state, inputs: step(data, state, keys, inputs)


WINDOWS = ("device", "disk")  # where ``window_feed`` keeps them
FEEDS = {"windows": window_feed, "tasks": no_feed}  # by what a method reads
