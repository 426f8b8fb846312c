"""Stage 2: models are trained: to predict the source's next action, or by RL²."""

import contextlib
import dataclasses
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar
from tqdm import tqdm

from ad_jax.checkpoint import Checkpoints
from ad_jax.distributed import processes, sharding
from ad_jax.errors import UserError
from ad_jax.methods import ad, rl2
from ad_jax.methods.optimizer import learning_rate, make_optimizer
from data_pipelines import windows
from data_pipelines.files import growing, write_text_atomically
from data_pipelines.reader import Histories, Selection
from experiments import build
from experiments.runtime.interruption import Interrupted, Interruption
from experiments.runtime.seeds import Seeds
from experiments.runtime.workdir import Workdir


def done(config: ml_collections.ConfigDict, workdir: Workdir) -> bool:
    """Whether the last training step is in a checkpoint."""
    if not workdir.checkpoints.exists():
        return False
    with contextlib.closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        return checkpoints.latest_step() == config.train.steps


def run(config: ml_collections.ConfigDict, workdir: Workdir, interruption: Interruption) -> None:
    """Trains from the newest checkpoint, or from scratch if there is none.

    Raises:
      UserError: the data, the mesh or the checkpoint do not suit the config, or the loss or the
        gradient is NaN.
      Interrupted: after a signal, once the state is saved.
    """
    mesh = sharding.make_mesh(**config.mesh)
    world = build.world(config)
    seeds = Seeds(config, mesh)
    training = METHODS[config.method](config, workdir, world)
    if len(seeds.numbers) == 1:
        sharding.check_windows(mesh, *training.windows)
    checkpoints = Checkpoints(workdir.checkpoints)

    first = [(build.key(config, "initialise", s), *training.first(s)) for s in seeds.slots]
    shardings = seeds.shardings(
        jax.eval_shape(training.init, *first[0]), build.sharding_rules(config)
    )
    state = seeds.init(training.init, first, shardings)
    first_step = 0
    before = {"seconds": 0.0, "transitions_per_s": 0.0}  # of the processes before this one
    if (newest := checkpoints.latest_step()) is not None:
        stored, before = checkpoints.restore(newest, seeds.to_store(state))
        state = seeds.from_store(stored)
        first_step = newest
        if processes.is_first():
            print(f"train: going on from step {first_step}")

    update = make_step(config, mesh, training, seeds, shardings)
    batches = zip(*(training.inputs(seed, first_step) for seed in seeds.slots), strict=True)
    log = Metrics(workdir, seeds.numbers, first_step) if processes.is_first() else None
    pending: list[tuple[int, dict[str, jax.Array]]] = []  # of the steps not fetched yet
    fetched: list[dict[str, np.ndarray]] = []  # of the steps not logged yet, each [seed]
    began = first_done = time.perf_counter()
    tokens = training.transitions * len(seeds.numbers)

    def fetch() -> None:
        """Fetches the metrics of the steps since the last time; stops on a NaN."""
        steps = [step for step, _ in pending]
        for step, metrics in zip(steps, seeds.fetch([m for _, m in pending]), strict=True):
            fetched.append(metrics)
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
        checkpoints.save(step, stored, {"seconds": seconds, "transitions_per_s": rate(step)})

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
    ):  # fmt: skip
        for step in range(first_step + 1, config.train.steps + 1):
            inputs = sharding.put(seeds.stack(next(batches)), seeds.inputs_sharding())
            with jax.transfer_guard("disallow"):
                state, metrics = update(state, inputs)
            pending.append((step, metrics))
            if step == first_step + 1:
                jax.block_until_ready(state)
                first_done = time.perf_counter()
            last = step == config.train.steps
            interruption.questions = step - 1
            stop = interruption.requested and not last  # read once: it may change at any time
            if step % config.train.log_every == 0 or last:
                fetch()
                means = {k: np.mean([m[k] for m in fetched], 0) for k in fetched[0]}
                fetched.clear()
                lr = float(training.learning_rate(step - 1))
                if log:
                    log.write(step, means, {"learning_rate": lr, "transitions_per_s": rate(step)})
                progress.set_postfix(loss=f"{means['loss'].mean():.4f}", refresh=False)
            progress.update(tokens)
            if step % config.train.checkpoint_every == 0 or last or stop:
                save(step)
            if stop:
                raise Interrupted


class Training(NamedTuple):
    """What a method trains, and on what; a model of each training seed alike.

    Attributes:
      init: ``init(key, *first) -> state``.
      first: ``first(seed)``, arrays that a fresh state depends on.
      update: ``update(data, state, key, inputs) -> (state, metrics)``, to be jitted.
      data: arrays that all steps of all seeds read.
      inputs: ``inputs(seed, first_step)``, what each step after ``first_step`` reads besides.
      windows: (how many of them the devices share in a step, the setting that says so).
      learning_rate: of the number of steps made.
      transitions: that a step learns from.
    """

    init: Callable[..., ad.TrainState]
    first: Callable[[int], tuple[Any, ...]]
    update: Callable[..., tuple[ad.TrainState, dict[str, jax.Array]]]
    data: Any
    inputs: Callable[[int, int], Iterator]
    windows: tuple[int, str]
    learning_rate: Callable[[int], Any]
    transitions: int


def make_step(
    config: ml_collections.ConfigDict, mesh: Mesh, training: Training, seeds: Seeds, shardings: Any
) -> Callable[..., tuple[ad.TrainState, dict[str, jax.Array]]]:
    """The jitted ``step(state, inputs) -> (state, metrics)`` of all models.

    Args:
      config: of the run.
      mesh: of all its devices.
      training: the method.
      seeds: of the models.
      shardings: of their state.
    """
    replicated = sharding.replicated(mesh)
    keys = seeds.stack([build.key(config, "train", seed) for seed in seeds.slots])
    keys = sharding.put(keys, replicated)
    data = sharding.put(training.data, replicated)
    out = shardings, seeds.metrics_sharding()
    update = seeds.of_all(training.update, num_shared=1)
    step = sharding.jit_on_mesh(mesh, update, donate_argnums=1, out_shardings=out)
    return lambda state, inputs: step(data, state, keys, inputs)


def distillation(
    config: ml_collections.ConfigDict, workdir: Workdir, world: build.World
) -> Training:
    """Of a model that is distilled into.

    Raises:
      UserError: the histories do not suit the config.
    """
    options = config.train
    part, rest = divmod(options.batch_size, options.accumulate)
    if rest:
        raise UserError(
            f"train.batch_size={options.batch_size} is not a multiple of "
            f"train.accumulate={options.accumulate}"
        )
    model, settings = build.model(config, world.env), build.optimizer(config)
    optimizer = make_optimizer(settings, options.steps)
    histories = Histories(workdir.histories)
    build.check_version(world.env, histories.provenance)
    schema = histories.schema
    trained_on = frozenset(world.train.tolist())
    if not trained_on & set(histories.task.tolist()):
        raise UserError(
            f"{workdir.histories} holds no task for training: collect with collect.tasks='train'"
        )
    selection = Selection(
        options.keep_every, options.keep_streams, options.keep_begin, options.keep_end, trained_on
    )
    of_first = windows.make_sampler(
        histories, selection=selection, context=config.model.context,
        batch_size=options.batch_size, seed=config.seed,
    )  # fmt: skip
    sampler = lambda seed: dataclasses.replace(of_first, seed=seed)
    update = ad.make_update(model, optimizer, options.label_smoothing, options.accumulate)

    def init(key, raw):
        return ad.init_state(key, model, optimizer, windows.to_batch(schema, raw))

    if options.windows == "device":
        source = windows.DeviceWindows(histories, of_first, selection)
        arrays, cut = source.arrays, source.cut

        def inputs(seed: int, first_step: int):
            return map(sampler(seed).starts, range(first_step, options.steps))

    elif options.windows == "disk":
        arrays, cut = (), lambda arrays, raw: raw

        def inputs(seed: int, first_step: int):
            return windows.disk_windows(
                histories, sampler(seed), selection, first_step, options.prefetch
            )

    else:
        raise UserError(f"train.windows={options.windows!r}: choose 'device' or 'disk'")

    return Training(
        init=init,
        first=lambda seed: (windows.make_reader(histories, sampler(seed), selection)(0),),
        update=lambda arrays, state, key, inputs: update(
            state, windows.to_batch(schema, cut(arrays, inputs)), key
        ),
        data=arrays,
        inputs=inputs,
        windows=(part, "train.batch_size / train.accumulate"),
        learning_rate=learning_rate(settings, options.steps),
        transitions=options.batch_size * config.model.context,
    )


def reinforcement(
    config: ml_collections.ConfigDict, workdir: Workdir, world: build.World
) -> Training:
    """Of RL², which makes its own transitions.

    Raises:
      UserError: a trial is longer than a transformer's context.
    """
    del workdir
    options = config.rl2
    env_params = world.tasks.params(world.train)
    trial_steps = options.episodes * int(np.max(env_params.max_steps_in_episode))
    if config.model.core == "transformer" and config.model.context < trial_steps:
        raise UserError(
            f"model.context={config.model.context} is less than a trial of RL2, {trial_steps} "
            "steps: raise it, or lower rl2.episodes"
        )
    model, settings = build.model(config, world.env), build.optimizer(config)
    per_step = options.num_epochs * options.num_minibatches
    optimizer = make_optimizer(settings, config.train.steps * per_step)
    schedule = learning_rate(settings, config.train.steps * per_step)
    update = rl2.make_update(
        world.env, env_params, model, optimizer, rl2.RL2Config(**options), trial_steps
    )
    return Training(
        init=lambda key: ad.init_state(key, model, optimizer),
        first=lambda seed: (),
        update=lambda data, state, key, inputs: update(state, key),
        data=(),
        inputs=lambda seed, first_step: itertools.repeat(()),
        windows=(
            options.num_trials // options.num_minibatches, "rl2.num_trials / rl2.num_minibatches"
        ),
        learning_rate=lambda step: schedule(step * per_step),
        transitions=options.num_trials * trial_steps,
    )  # fmt: skip


METHODS = {"AD": distillation, "ED": distillation, "RL2": reinforcement}


class Metrics:
    """Writes metrics to metrics.jsonl and to TensorBoard, each step once, also after a restart.

    A line is of a step and a training seed; where there are several seeds, each has a folder below
    tensorboard/. ``publish`` brings what was written to a workdir in a store.

    Both are written here and now: TensorBoard's usual writer has a thread, and waits for it for
    ever once a full disk has ended it.
    """

    def __init__(self, workdir: Workdir, seeds: list[int], first_step: int):
        self._growing = contextlib.ExitStack()
        folder, self.publish = self._growing.enter_context(growing(workdir.path))
        path, found = folder / "metrics.jsonl", workdir.path / "metrics.jsonl"
        if found.exists():
            lines = [_parse(line) for line in found.read_text().splitlines()]
            kept = [m for m in lines if m and m["step"] <= first_step]
            write_text_atomically(path, "".join(json.dumps(m) + "\n" for m in kept))
        self._file = open(path, "a")
        self._boards = {}
        for seed in seeds:
            board = folder / "tensorboard" / ("" if len(seeds) == 1 else f"seed_{seed}")
            board.mkdir(parents=True, exist_ok=True)
            self._boards[seed] = EventsWriter(str(board / "events"))
            # TensorBoard hides what an earlier process wrote of later steps.
            started = SessionLog(status=SessionLog.START)
            self._boards[seed].write_event(Event(step=first_step + 1, session_log=started))

    def write(self, step: int, of_seeds: dict[str, np.ndarray], of_all: dict[str, float]) -> None:
        """Adds a line of each seed: values [seed], and those that all share."""
        for i, (seed, board) in enumerate(self._boards.items()):
            metrics = {**{name: float(values[i]) for name, values in of_seeds.items()}, **of_all}
            self._file.write(json.dumps({"step": step, "seed": seed, **metrics}) + "\n")
            for name, value in metrics.items():
                summary = scalar(f"train/{name}", value)
                board.write_event(Event(wall_time=time.time(), step=step, summary=summary))
            board.flush()
        self._file.flush()

    def close(self) -> None:
        """Finishes all files."""
        with self._growing:
            self._file.close()
            for board in self._boards.values():
                board.close()


def _parse(line: str) -> dict[str, Any] | None:
    """A line of metrics.jsonl; None for one that was cut off."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
