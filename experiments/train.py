"""Stage 2: the transformer is trained to predict the source's next action."""

import contextlib
import functools
import json
import math
import time
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar
from tqdm import tqdm

from ad_jax import parallel
from ad_jax.checkpoint import Checkpoints
from ad_jax.errors import UserError
from ad_jax.training import distill
from ad_jax.training.optimizer import learning_rate, make_optimizer
from data_pipelines import windows
from data_pipelines.files import growing, write_atomically
from data_pipelines.reader import Histories, Selection
from experiments import build
from experiments.interruption import Interrupted, Interruption
from experiments.workdir import Workdir


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
    mesh = parallel.make_mesh(**config.mesh)
    part, rest = divmod(config.train.batch_size, config.train.accumulate)
    if rest:
        raise UserError(
            f"train.batch_size={config.train.batch_size} is not a multiple of "
            f"train.accumulate={config.train.accumulate}"
        )
    parallel.check_windows(mesh, part, "train.batch_size / train.accumulate")
    world = build.world(config)
    model = build.model(config, world.env)
    settings = build.optimizer(config)
    optimizer = make_optimizer(settings, config.train.steps)
    data = open_data(config, workdir)
    build.check_version(world.env, data.histories.provenance)

    checkpoints = Checkpoints(workdir.checkpoints)

    def init(key, raw):
        batch = windows.to_batch(data.histories.schema, raw)
        return distill.init_state(key, model, optimizer, batch)

    first = build.key(config, "initialise"), windows.make_reader(*data)(0)
    shardings = parallel.state_shardings(mesh, jax.eval_shape(init, *first))
    first = parallel.put(first, parallel.replicated(mesh))
    state = jax.jit(init, out_shardings=shardings)(*first)
    first_step = 0
    before = {"seconds": 0.0, "transitions_per_s": 0.0}  # of the processes before this one
    if (newest := checkpoints.latest_step()) is not None:
        state, before = checkpoints.restore(newest, state)
        first_step = newest
        if parallel.is_first():
            print(f"train: going on from step {first_step}")

    update = distill.make_update(
        model, optimizer, config.train.label_smoothing, config.train.accumulate
    )
    update, batches = make_training(config, mesh, shardings, update, data, first_step)
    schedule = learning_rate(settings, config.train.steps)
    log = Metrics(workdir, first_step) if parallel.is_first() else None
    pending: list[tuple[int, dict[str, jax.Array]]] = []  # of the steps not fetched yet
    fetched: list[dict[str, np.ndarray]] = []  # of the steps not logged yet
    began = first_done = time.perf_counter()
    tokens = config.train.batch_size * config.model.context

    def fetch() -> None:
        """Fetches the metrics of the steps since the last time; stops on a NaN."""
        for step, metrics in jax.device_get(pending):
            for name in ("loss", "grad_norm"):  # a step with a bad gradient spoils the parameters
                if not math.isfinite(metrics[name]):
                    good = checkpoints.latest_step()
                    raise UserError(
                        f"{name} is {metrics[name]} at training step {step}; the last good "
                        "checkpoint is "
                        f"{'none' if good is None else f'{workdir.checkpoints}/{good}'}: "
                        "lower optimizer.learning_rate, in another workdir"
                    )
            fetched.append(metrics)
        pending.clear()

    def save(step: int) -> None:
        fetch()
        if log:  # before the checkpoint: training that goes on from it has all metrics up to it
            log.publish()
        seconds = before["seconds"] + time.perf_counter() - began
        checkpoints.save(step, state, {"seconds": seconds, "transitions_per_s": rate(step)})

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
            disable=not parallel.is_first(),
        ) as progress,
        contextlib.closing(log) if log else contextlib.nullcontext(),
        contextlib.closing(checkpoints),
    ):  # fmt: skip
        for step in range(first_step + 1, config.train.steps + 1):
            inputs = next(batches)
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
                means = {k: float(np.mean([m[k] for m in fetched])) for k in fetched[0]}
                fetched.clear()
                lr = float(schedule(step - 1))
                if log:
                    log.write(step, {**means, "learning_rate": lr, "transitions_per_s": rate(step)})
                progress.set_postfix(loss=f"{means['loss']:.4f}", refresh=False)
            progress.update(tokens)
            if step % config.train.checkpoint_every == 0 or last or stop:
                save(step)
            if stop:
                raise Interrupted


class Data(NamedTuple):
    """The histories, which windows make the batch of a step, and what is kept of the episodes."""

    histories: Histories
    sampler: windows.WindowSampler
    selection: Selection


def open_data(config: ml_collections.ConfigDict, workdir: Workdir) -> Data:
    """The data set of a run."""
    options, histories = config.train, Histories(workdir.histories)
    selection = Selection(
        options.keep_every, options.keep_streams, options.keep_begin, options.keep_end
    )
    sampler = windows.make_sampler(
        histories, selection=selection, context=config.model.context,
        batch_size=options.batch_size, seed=config.seed,
    )  # fmt: skip
    return Data(histories, sampler, selection)


def make_training(config, mesh, shardings, update, data: Data, first_step: int):
    """The jitted training step and its inputs.

    Args:
      config: of the run.
      mesh: where it runs.
      shardings: of the state.
      update: from ``make_update``.
      data: what it is trained on.
      first_step: updates made already.

    Returns:
      ``step(state, inputs) -> (state, metrics)``, and an iterator of the inputs of the steps
      after ``first_step``, which are on the devices.
    """
    options, schema = config.train, data.histories.schema
    update = parallel.on_mesh(mesh, update)
    spread, replicated = parallel.over_windows(mesh), parallel.replicated(mesh)
    key = parallel.put(build.key(config, "train"), replicated)
    jit = functools.partial(jax.jit, donate_argnums=0, out_shardings=(shardings, replicated))

    if options.windows == "device":
        source = windows.DeviceWindows(*data)
        arrays = parallel.put(source.arrays, replicated)
        step = jit(
            lambda state, key, arrays, starts: update(
                state, windows.to_batch(schema, source.cut(arrays, starts)), key
            )
        )
        raw = (source.starts(s) for s in range(first_step, options.steps))
        run_step = lambda state, starts: step(state, key, arrays, starts)
    elif options.windows == "disk":
        step = jit(lambda state, key, raw: update(state, windows.to_batch(schema, raw), key))
        raw = windows.disk_windows(*data, first_step, options.prefetch)
        run_step = lambda state, raw: step(state, key, raw)
    else:
        raise UserError(f"train.windows={options.windows!r}: choose 'device' or 'disk'")
    return run_step, (parallel.put(inputs, spread) for inputs in raw)


class Metrics:
    """Writes metrics to metrics.jsonl and to TensorBoard, each step once, also after a restart.

    ``publish`` brings what was written to a workdir in a store.

    Both are written here and now: TensorBoard's usual writer has a thread, and waits for it for
    ever once a full disk has ended it.
    """

    def __init__(self, workdir: Workdir, first_step: int):
        self._growing = contextlib.ExitStack()
        folder, self.publish = self._growing.enter_context(growing(workdir.path))
        path, found = folder / "metrics.jsonl", workdir.path / "metrics.jsonl"
        if found.exists():
            lines = [_parse(line) for line in found.read_text().splitlines()]
            kept = [m for m in lines if m and m["step"] <= first_step]
            write_atomically(path, "".join(json.dumps(m) + "\n" for m in kept))
        self._file = open(path, "a")
        board = folder / "tensorboard"
        board.mkdir(exist_ok=True)
        self._board = EventsWriter(str(board / "events"))
        # TensorBoard hides what an earlier process wrote of later steps.
        started = SessionLog(status=SessionLog.START)
        self._board.write_event(Event(step=first_step + 1, session_log=started))

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Adds one line."""
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()
        for name, value in metrics.items():
            summary = scalar(f"train/{name}", value)
            self._board.write_event(Event(wall_time=time.time(), step=step, summary=summary))
        self._board.flush()

    def close(self) -> None:
        """Finishes both files."""
        with self._growing:
            self._file.close()
            self._board.close()


def _parse(line: str) -> dict[str, Any] | None:
    """A line of metrics.jsonl; None for one that was cut off."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
