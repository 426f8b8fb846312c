"""Checks the whole config before the first stage, so that no run fails after minutes of work.

The checks take seconds. Every message is one line and names the command-line key. Everything that
can be built without data is built: the environment, the source, the data schema, the model, the
optimizer and the sharding of the state. For arrays, only shapes are computed.
"""

import importlib.util
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from absl import flags

from ad_jax import build
from ad_jax.config import base
from ad_jax.distributed import sharding
from ad_jax.envs import tasks
from ad_jax.envs.checker import check_env
from ad_jax.envs.registry import ENVIRONMENTS
from ad_jax.errors import UserError
from ad_jax.evaluation.agents import MODES
from ad_jax.methods.train_state import zero_inputs
from data_pipelines.reader import Selection
from data_pipelines.schema import Schema
from experiments.runtime.seeds import Seeds
from experiments.runtime.tracker import TRACKERS
from experiments.stages import evaluate
from experiments.stages.collect import collected_tasks
from experiments.stages.train import WINDOWS

LARGEST = 2**31 - 1  # of JAX's integers


class Range(NamedTuple):
    """The numbers from ``low`` to ``high``; an open end is excluded."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: object) -> bool:
        above = self.low < value if self.low_open else self.low <= value
        below = value < self.high if self.high_open else value <= self.high
        return math.isfinite(value) and above and below

    def __str__(self) -> str:
        if (self.low, self.high) == (-math.inf, math.inf):
            return "a finite number"
        low = f"greater than {self.low}" if self.low_open else f"from {self.low}"
        if self.high == math.inf:
            return "a finite number" + (f" {low}" if self.low_open else f", {self.low} or more")
        return f"a number {low} to {self.high}" + f", excluding {self.high}" * self.high_open


COUNT = Range(1, LARGEST)
COUNT_OR_ZERO = Range(0, LARGEST)
NOT_NEGATIVE = Range(0)
POSITIVE = Range(0, low_open=True)
PART = Range(0, 1)
BELOW_ONE = Range(0, 1, high_open=True)
# Integers that are not listed must be at least 1, and floats must not be negative.
RANGES = {
    "seed": COUNT_OR_ZERO,
    "tasks.seed": COUNT_OR_ZERO,
    "tasks.num_validation": COUNT_OR_ZERO,
    "collect.min_improved": PART,
    "model.attention_window": COUNT_OR_ZERO,
    "model.dropout": BELOW_ONE,
    "model.attention_dropout": BELOW_ONE,
    "model.mask_probability": BELOW_ONE,
    "optimizer.warmup_steps": COUNT_OR_ZERO,
    "optimizer.b1": BELOW_ONE,
    "optimizer.b2": BELOW_ONE,
    "train.keep_begin": PART,
    "train.keep_end": PART,
    "train.label_smoothing": BELOW_ONE,
    "train.evaluate_every": COUNT_OR_ZERO,
    "evaluation.prompt_episodes": COUNT_OR_ZERO,
    "evaluation.prompt_quality": PART,
    "mesh.data": Range(-1, LARGEST),
    "mesh.fsdp": Range(-1, LARGEST),
    "mesh.model": Range(-1, LARGEST),
    "mesh.sequence": Range(-1, LARGEST),
}
# The same for all sources and methods, by the last part of a key.
RANGES_BY_NAME = {
    "learning_rate": POSITIVE,
    "discount": PART,
    "gae_lambda": PART,
    "q_lambda": PART,
    "clip": POSITIVE,
    "max_grad_norm": POSITIVE,
    "min_advantage_std": POSITIVE,
    "adam_eps": POSITIVE,
    "epsilon_start": PART,
    "epsilon_end": PART,
    "entropy_end": Range(),  # below 0, policies become deterministic where rewards are 0, too
    "entropy_updates": COUNT_OR_ZERO,
    "expectile": PART,
    "horizon": COUNT_OR_ZERO,
}


class IntegerOrNone(flags.IntegerParser):
    """Integers on the command line; None for a setting that may be left open."""

    def parse(self, argument):
        return None if argument in (None, "None") else super().parse(argument)


def validate(config: ml_collections.ConfigDict) -> None:
    """Raises a UserError if anything in a config is known to fail."""
    check_values(config)
    _check_tracker(config.tracker)
    mesh = sharding.make_mesh(**config.mesh)
    world = built(f"env.name={config.env.name!r}", lambda: build.world(config))
    acts = build.acts(world.env)
    if acts and config.env.name not in ENVIRONMENTS:
        built(f"env.name={config.env.name!r}", lambda: check_env(world.env, world.tasks))
    limit = episode_limit(world)
    model = built("the model", lambda: build.model(config, world.env))
    if acts and build.reads_windows(config):
        _check_histories(config, world)
    if not acts and not build.reads_windows(config):
        raise UserError(
            f"method={config.method!r} acts in its tasks, but there are only histories of them: "
            "choose a method that learns from histories"
        )
    if not acts and config.train.evaluate_every:
        raise UserError("train.evaluate_every: there is no environment to act in: give 0")
    _check_method(config, model, limit)
    _check_state(config, world, model, mesh)
    _check_evaluation(config, world, model, limit)


def check_values(config: ml_collections.ConfigDict) -> None:
    """Raises a UserError if a value has another type than its default, or is out of bounds."""
    # Environments check their own arguments.
    usual = {k: v for k, v in _leaves(base(config)) if not k.startswith("env.kwargs.")}
    for key, value in _leaves(config):
        if key in usual:
            _check_type(key, value, usual[key])
        for number in value if isinstance(value, tuple) else (value,):
            if type(number) in (int, float):
                _check_number(key, number, is_known=key in usual)


def range_of(key: str, value: int | float) -> Range:
    """The numbers that a key takes."""
    named = RANGES.get(key) or RANGES_BY_NAME.get(key.rsplit(".", 1)[-1])
    return named or (COUNT if type(value) is int else NOT_NEGATIVE)


def _check_tracker(name: str) -> None:
    if name not in ("", *TRACKERS):
        raise UserError(f"tracker={name!r}: choose one of {sorted(TRACKERS)}, or ''")
    found = importlib.util.find_spec(name) if name else None
    if name and (found is None or found.origin is None):  # W&B makes folders of this name
        raise UserError(f"tracker={name!r} is not installed: pip install '.[{name}]'")


def _check_number(key: str, value: int | float, is_known: bool) -> None:
    # Environments check their own arguments, which only have to be finite and not too large here.
    allowed = range_of(key, value) if is_known else Range(-LARGEST - 1, LARGEST)
    if value not in allowed:
        raise UserError(f"{key}={value}: give {allowed}")


def _check_type(key: str, value: Any, usual: Any) -> None:
    if usual is None:  # a placeholder, whose type ml_collections checks
        return
    if value is None:
        raise UserError(f"{key}=None: give a value, such as {usual!r}")
    if isinstance(usual, float) and type(value) is int:
        return
    if type(value) is not type(usual):
        raise UserError(f"{key}={value!r}: give a value like {usual!r}")
    kind = type(usual[0]) if isinstance(usual, tuple) and usual else int
    if isinstance(usual, tuple) and any(type(item) is not kind for item in value):
        raise UserError(f"{key}={value!r}: give a tuple of {kind.__name__}, such as {usual!r}")


def _leaves(config: ml_collections.ConfigDict, prefix: str = ""):
    """(dotted key, value) of all that is not a group."""
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def built(what: str, function: Callable[[], Any]) -> Any:
    """The result of a function; any exception becomes a UserError of one line."""
    try:
        return function()
    except UserError:
        raise
    except Exception as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{what} can't be built from this config: {text}") from error


def episode_limit(world: build.World) -> int:
    """The length of the longest episode of all tasks, in steps.

    Raises:
      UserError: episodes have no step limit, or the tasks' parameters lack a leading axis [task].
    """
    groups = [(ids, world.tasks.params(ids)) for ids in world[2:] if len(ids)]
    limit = max(tasks.episode_limit(params, world.env.name) for _, params in groups)
    for ids, params in groups:
        if any(np.shape(leaf)[:1] != (len(ids),) for leaf in jax.tree.leaves(params)):
            raise UserError(
                f"env.name: the tasks of {world.env.name} are not a batch: params(task_ids) must "
                "give every leaf a leading axis with one entry for each id"
            )
    return limit


def _check_histories(config: ml_collections.ConfigDict, world: build.World) -> None:
    """Checks the source, the collection, and the windows that are cut from the histories."""
    name, options = config.source.name, config.collect
    source = built(f"source.name={name!r}", lambda: build.source(config, world.env))
    if options.updates % options.updates_per_chunk:
        raise UserError(
            f"collect.updates={options.updates} is not a multiple of "
            f"collect.updates_per_chunk={options.updates_per_chunk}"
        )
    if options.streams is not None and not 1 <= options.streams <= source.num_streams:
        raise UserError(
            f"collect.streams={options.streams}, but the source has {source.num_streams}"
        )
    collected_tasks(config, world)
    schema = lambda: Schema.of(world.env, source.steps_per_update * options.updates_per_chunk)
    built("the data set", schema)
    one = jax.tree.map(lambda x: x[0], world.tasks.params(world.train[:1]))
    steps = lambda params: source.step(source.init(jax.random.key(0), params))
    built(f"source.name={name!r}", lambda: jax.eval_shape(steps, one))

    train = config.train
    if train.windows not in WINDOWS:
        raise UserError(f"train.windows={train.windows!r}: choose one of {WINDOWS}")
    keys = {k: f"train.keep_{k}" for k in ("every", "streams", "begin", "end")}
    with build.named_by_key(keys):
        Selection(train.keep_every, train.keep_streams, train.keep_begin, train.keep_end)
    if (total := options.updates * source.steps_per_update) < config.model.context:
        raise UserError(
            f"model.context={config.model.context} is longer than the histories, which have "
            f"{total} steps: lower it, or raise collect.updates"
        )


def _check_method(config: ml_collections.ConfigDict, model: Any, limit: int) -> None:
    """Whether the method suits the model, the tasks and the histories."""
    acts_as_expert = config.source.name == "noise" and not config.source.noise.epsilon_start
    experts = acts_as_expert or config.train.keep_begin > 0
    settings = build.method_settings(config)
    if config.model.normalize and not build.reads_windows(config):
        raise UserError(
            f"model.normalize needs the statistics of histories, but method={config.method!r} "
            "reads none: leave it out"
        )
    with build.named_by_key(build.method_keys(config)):
        build.method_spec(config).validate(settings, model, limit, experts)


def _check_state(
    config: ml_collections.ConfigDict, world: build.World, model: Any, mesh: Any
) -> None:
    """Whether a training state can be made, and whether the devices can share it and its work."""
    method, seeds = build.method(config, world), Seeds(config, mesh)
    if len(seeds.numbers) == 1:
        with build.named_by_key(build.method_keys(config)):
            sharding.check_windows(mesh, method.shared, method.shared_name)
        with build.named_by_key(build.keys_of("model", type(model.config))):
            model.config.check_sequence(mesh.shape)
    example = zero_inputs(model) if build.reads_windows(config) else ()
    state = built("the model", lambda: jax.eval_shape(method.init, jax.random.key(0), example))
    seeds.shardings(state, build.sharding_rules(config))


def _check_evaluation(
    config: ml_collections.ConfigDict, world: build.World, model: Any, limit: int
) -> None:
    options, context = config.evaluation, config.model.context
    evaluate.tested_tasks(world, options.tasks)
    every, rows = config.train.evaluate_every, config.train.log_every
    if every % rows:
        raise UserError(f"train.evaluate_every={every} is not a multiple of train.log_every={rows}")
    if options.mode not in MODES:
        raise UserError(f"evaluation.mode={options.mode!r}: choose one of {MODES}")
    prompt = options.prompt_episodes
    if prompt and not hasattr(world.env, "known_state"):
        raise UserError(
            f"evaluation.prompt_episodes={prompt}: there is no demonstrator for {world.env.name}, "
            "whose optimal policy is not computed: give 0"
        )
    if prompt * limit > context:
        raise UserError(
            f"evaluation.prompt_episodes={prompt} of {limit} steps each do not fit into "
            f"model.context={context}: give fewer"
        )
    most = model.config.max_steps
    if most and options.mode == "fast" and (prompt + options.episodes) * limit > most:
        raise UserError(
            "evaluation.mode='fast' goes past the context, where there are no learned positions: "
            "give evaluation.mode='exact', or model.positions='rotary'"
        )
