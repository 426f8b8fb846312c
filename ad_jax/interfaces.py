"""The interfaces between the parts of the system: History, Source, Agent and Method.

The fifth, Environment, is gymnax's own: a task is a value of ``EnvParams``, and a batch of tasks
is a batched ``EnvParams`` under ``jax.vmap``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax


@chex.dataclass(frozen=True)
class History:
    """Transitions in the order in which they were made, with the field names of RLDS.

    The leading axes are [task, stream, time], or the last of these. Step t holds the observation
    *before* the action, the action, and what the action led to; an episode of n steps has n
    entries.

    Attributes:
      observation: what the environment showed, int32, float32 or uint8 (pictures),
        ``[..., time, *observation_shape]``.
      action: int32 ``[..., time, *action_shape]``.
      reward: float32 [..., time], the reward that followed the action.
      is_first: bool [..., time], the first step of an episode.
      is_last: bool [..., time], the episode ended with this step, for whatever reason.
      is_terminal: bool [..., time], the environment terminated it; it was not the time limit.
    """

    observation: jax.Array
    action: jax.Array
    reward: jax.Array
    is_first: jax.Array
    is_last: jax.Array
    is_terminal: jax.Array


class Source(NamedTuple):
    """A learner whose learning history is distilled, as a pair of pure functions for one task.

    Attributes:
      init: ``init(key, env_params) -> state``.
      step: ``step(state) -> (state, history)``, one update: the learner acts, and learns from it.
        ``history`` is a History with axes [stream, time].
      num_streams: streams (actors) per task.
      steps_per_update: length of the time axis of that history.
    """

    init: Callable[[jax.Array, Any], Any]
    step: Callable[[Any], tuple[Any, History]]
    num_streams: int
    steps_per_update: int


class SourceSpec(NamedTuple):
    """An entry of the registry of sources.

    Attributes:
      make: ``make(env, settings) -> Source``; raises a UserError if the settings do not suit the
        environment.
      settings: a frozen dataclass with the source's settings, each with a default.
    """

    make: Callable[[Any, Any], Source]
    settings: type


class Agent(NamedTuple):
    """Anything that acts in an environment, as a pair of pure functions.

    The memory lasts across episodes, so that an agent can learn in context. It also carries the
    agent's random key, so that ``act`` is a pure function.

    Attributes:
      init: ``init(key) -> memory``.
      act: ``act(memory, observation, previous_action, previous_reward, is_first) -> (memory,
        action)``. At the very first step ``previous_action`` is ``Actions.none``, which stands for
        no action, and ``previous_reward`` is 0. ``act`` may return more values after the action;
        rollouts then return these for every step.
    """

    init: Callable[[jax.Array], Any]
    act: Callable[[Any, jax.Array, jax.Array, jax.Array, jax.Array], tuple[Any, ...]]


class Method(NamedTuple):
    """A way to train a model, as pure functions. ``MethodSpec.make`` returns one.

    Attributes:
      init: ``init(key, example) -> TrainState``. ``example`` is the first batch of windows, or
        ``()`` for a method that reads tasks.
      update: ``update(state, batch, key) -> (state, metrics)``, to be jitted. ``batch`` is a dict
        of arrays as ``data_pipelines.windows.to_batch`` returns it, or ``()`` for a method that
        reads tasks. ``metrics`` are float32 scalars, including "loss" and "grad_norm". Random draws
        depend on ``key``, which is the same in every call, and on ``state.step``.
      agent: ``agent(params, *, mode, temperature) -> Agent``, the agent that is evaluated; see
        ``model_agent``.
      shared: how many windows or trials are divided among the devices at a time. Their number must
        be a multiple of the number of devices that share them.
      shared_name: the arguments that determine ``shared``, for error messages.
      transitions: how many transitions an update learns from.
    """

    init: Callable[[jax.Array, Any], Any]
    update: Callable[[Any, Any, jax.Array], tuple[Any, dict[str, jax.Array]]]
    agent: Callable[..., Agent]
    shared: int
    shared_name: str
    transitions: int


class MethodSpec(NamedTuple):
    """An entry of the registry of methods.

    Attributes:
      make: ``make(model, optimizer, env, env_params, settings) -> Method``. ``env_params`` are
        those of the training tasks, with a leading axis [task].
      settings: a frozen dataclass with the method's settings. Its attribute ``optimizer_steps`` is
        the number of optimizer steps per update.
      group: the name of the group of settings in a config. Methods may share the group "train".
      reads: "windows" of stored histories, or "tasks" in which the method acts itself.
      extra_outputs: ``extra_outputs(env)``, how many outputs the model needs besides the logits,
        for example one for a value.
      validate: ``validate(settings, model, max_steps, experts)`` raises a UserError if these do not
        suit the method. ``max_steps`` is the length of the longest episode; ``experts`` says
        whether the histories are an expert's.
    """

    make: Callable[[Any, Any, Any, Any, Any], Method]
    settings: type
    group: str
    reads: str
    extra_outputs: Callable[[Any], int] = lambda env: 0
    validate: Callable[[Any, Any, int, bool], None] = lambda *_: None
