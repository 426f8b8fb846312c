"""Tasks for any gymnax environment: its dynamics with other actions and other signs.

In each task, discrete actions are permuted, or some components of continuous actions are mirrored.
If observations are float vectors, some of their components change sign. The agent is not told
which: it has to find out what its actions do. (Random maps of observations and actions as tasks:
Kirsch et al. 2022, arXiv:2212.04458.)
"""

import importlib.metadata
import math
from typing import Any

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from ad_jax.envs.binned import is_continuous
from ad_jax.envs.tasks import MAX_TASK_ID, TaskDistribution
from ad_jax.errors import UserError


@struct.dataclass
class EnvParams(environment.EnvParams):
    """The task.

    Attributes:
      inner: EnvParams of gymnax's environment.
      actions: which of its actions each action stands for, int32 [actions]; for continuous actions,
        a sign for each component, float32 [components].
      signs: of the components of an observation, float32 [components]; [0] if it is no float
        vector.
      max_steps_in_episode: int32.
    """

    inner: Any = None
    actions: Any = None
    signs: Any = None
    max_steps_in_episode: Any = 1


class Variants(environment.Environment):
    """An environment of gymnax with a distribution of tasks.

    Observations have the shape that the environment really returns, whatever its space declares.
    They are float32, or int32 for a Discrete space.

    Args:
      name: an id of gymnax.
      max_steps_in_episode: a shorter limit than the environment's own; None keeps its own.
      **kwargs: arguments of gymnax's environment.

    Raises:
      UserError: it can't be made, its actions are neither discrete nor vectors, or its observations
        not one array.
    """

    def __init__(self, name: str, max_steps_in_episode: int | None = None, **kwargs: Any):
        super().__init__()
        try:
            self.inner, self._params = gymnax.make(name, **kwargs)
        except Exception as error:  # one downloads its data
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(f"{name} can't be made by gymnax ({text})") from error
        self._name = name
        self.version = f"{importlib.metadata.version('gymnax')}, variants 1.0.0"
        actions = self.inner.action_space(self._params)
        if not is_continuous(actions) and not isinstance(actions, spaces.Discrete):
            raise UserError(
                f"{name} has actions of {actions}: only Discrete and a Box of floats are supported"
            )
        self._bounds = (actions.low, actions.high) if is_continuous(actions) else None
        self._actions = int(actions.n if self._bounds is None else actions.shape[0])
        seen, _ = jax.eval_shape(self.inner.reset, jax.random.key(0), self._params)
        if not hasattr(seen, "shape"):
            raise UserError(
                f"{name} has observations of {type(seen).__name__}: only one array is supported"
            )
        self._shape = seen.shape
        space = self.inner.observation_space(self._params)
        self._values = int(space.n) if isinstance(space, spaces.Discrete) else None
        self._signs = self._shape[0] if self._values is None and len(self._shape) == 1 else 0
        own = int(self._params.max_steps_in_episode)
        self.max_steps_in_episode = own if max_steps_in_episode is None else max_steps_in_episode
        if not 1 <= self.max_steps_in_episode <= own:
            raise UserError(
                f"max_steps_in_episode={max_steps_in_episode}: {name} allows 1 to {own}"
            )

    @property
    def name(self) -> str:
        return self._name

    @property
    def default_params(self) -> EnvParams:
        """The task that changes nothing."""
        return EnvParams(
            inner=jax.tree.map(jnp.asarray, self._params),
            actions=jnp.arange(self._actions) if self._bounds is None else jnp.ones(self._actions),
            signs=jnp.ones(self._signs),
            max_steps_in_episode=jnp.int32(self.max_steps_in_episode),
        )

    def tasks(self) -> TaskDistribution:
        """One task for each permutation (or mirroring) of actions and each choice of signs.

        The signs of observations vary fastest. If there are more than ``MAX_TASK_ID`` such tasks,
        an id is instead the seed of a random one.
        """
        permuted, count = self._bounds is None, self._actions
        number = (math.factorial(count) if permuted else 2**count) * 2**self._signs
        counted = number <= MAX_TASK_ID

        def one(task: int) -> tuple[np.ndarray, np.ndarray]:
            if not counted:
                rng = np.random.default_rng(task)
                draw = lambda size: rng.choice([-1.0, 1.0], size)
                return rng.permutation(count) if permuted else draw(count), draw(self._signs)
            order, bits = divmod(task, 2**self._signs)
            actions = _permutation(order, count) if permuted else _signs(order, count)
            return actions, _signs(bits, self._signs)

        def params(ids: np.ndarray) -> EnvParams:
            made = [one(int(task)) for task in ids]
            usual = self.default_params
            repeat = lambda x: jnp.broadcast_to(x, (len(made), *jnp.shape(x)))
            return EnvParams(
                inner=jax.tree.map(repeat, usual.inner),
                actions=jnp.asarray(
                    np.stack([actions for actions, _ in made]), usual.actions.dtype
                ),
                signs=jnp.asarray(np.stack([signs for _, signs in made]), jnp.float32),
                max_steps_in_episode=repeat(usual.max_steps_in_episode),
            )

        return TaskDistribution(params=params, num_tasks=number if counted else None)

    def step_env(self, key, state, action, params):
        if self._bounds is None:
            action = params.actions[action]
        else:
            low, high = self._bounds
            action = jnp.where(params.actions > 0, action, low + high - action)
        observation, state, reward, terminated, _ = self.inner.step_env(
            key, state, action, params.inner
        )
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        terminated = jnp.asarray(terminated, bool).reshape(())
        return self._seen(observation, params), state, reward, terminated, {}

    def reset_env(self, key, params):
        observation, state = self.inner.reset_env(key, params.inner)
        return self._seen(observation, params), state

    def is_terminated(self, state, params):
        return jnp.asarray(self.inner.is_terminated(state, params.inner), bool).reshape(())

    def _seen(self, observation: Any, params: EnvParams) -> jax.Array:
        if self._values is not None:
            return jnp.asarray(observation, jnp.int32)
        observation = jnp.asarray(observation, jnp.float32)
        return observation * params.signs if self._signs else observation

    @property
    def num_actions(self) -> int:
        return self._actions

    def action_space(self, params=None):
        del params
        if self._bounds is None:
            return spaces.Discrete(self._actions)
        return spaces.Box(*self._bounds, (self._actions,), jnp.float32)

    def observation_space(self, params=None):
        del params
        if self._values is not None:
            return spaces.Discrete(self._values)
        return spaces.Box(-jnp.inf, jnp.inf, self._shape, jnp.float32)


def _signs(bits: int, size: int) -> np.ndarray:
    """1 for each bit that is not set, -1 for each that is."""
    return 1.0 - 2 * (bits >> np.arange(size) & 1)


def _permutation(number: int, size: int) -> np.ndarray:
    """The permutation of that number, in lexicographic order: 0 changes nothing."""
    left, order = list(range(size)), []
    for place in range(size, 0, -1):
        index, number = divmod(number, math.factorial(place - 1))
        order.append(left.pop(index))
    return np.array(order)
