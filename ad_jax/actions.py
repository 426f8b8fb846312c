"""Action spaces, and distributions over actions.

An action is one integer, as in nearly all environments here, or a vector of integers. Each
component of a vector has its own number of values. A component of a continuous action is the index
of one of several evenly spaced values between its bounds (see ``envs.binned``). The logits of all
components are concatenated, and components are sampled independently.
"""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from gymnax.environments import spaces

from ad_jax.envs.spaces import component_sizes
from ad_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Actions:
    """The actions of an environment.

    Attributes:
      sizes: the number of values of each component.
      scalar: whether an action is a single integer, without a component axis.
    """

    sizes: tuple[int, ...]
    scalar: bool = False

    @classmethod
    def discrete(cls, number: int) -> "Actions":
        """Actions 0 to number - 1."""
        return cls((int(number),), scalar=True)

    @classmethod
    def of(cls, env: Any) -> "Actions":
        """The actions of a gymnax environment.

        Raises:
          UserError: they are neither discrete nor a vector of integers that start at 0.
        """
        space = env.action_space(env.default_params)
        if isinstance(space, spaces.Discrete):
            return cls.discrete(space.n)
        sizes = component_sizes(space)
        if sizes is None or len(space.shape) != 1 or np.any(np.asarray(space.low)):
            raise UserError(
                f"{env.name} has actions of space {type(space).__name__}: give Discrete, a bounded "
                "Box of floats or a Box of whole numbers that start at 0; a Box must have one axis"
            )
        return cls(tuple(sizes.tolist()))

    def __str__(self) -> str:
        return " x ".join(map(str, self.sizes))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one action: () or (components,)."""
        return () if self.scalar else (len(self.sizes),)

    @property
    def num_logits(self) -> int:
        """The number of logits, of all components."""
        return sum(self.sizes)

    @property
    def none(self) -> np.ndarray:
        """The value that stands for "no previous action"; int32 ``[*shape]``."""
        return np.array(self.sizes, np.int32).reshape(self.shape)

    def number(self, who: str) -> int:
        """The number of actions, for algorithms that compare all of them.

        Args:
          who: what compares them, for the error message.

        Raises:
          UserError: actions have several components.
        """
        if not self.scalar:
            raise UserError(
                f"{who} needs a single discrete action, but here it has {len(self.sizes)} parts"
            )
        return self.sizes[0]

    def split(self, logits: jax.Array) -> list[jax.Array]:
        """The logits of each component, from float32 [..., num_logits]."""
        ends = list(itertools.accumulate(self.sizes))
        return jnp.split(logits, ends[:-1], -1)

    def components(self, action: jax.Array) -> jax.Array:
        """Actions with an axis of components, int32 [..., components]."""
        return action[..., None] if self.scalar else action

    def best(self, logits: jax.Array) -> jax.Array:
        """The most probable action; int32 ``[..., *shape]``."""
        return self._joined([jnp.argmax(part, -1) for part in self.split(logits)])

    def draw(self, key: jax.Array, logits: jax.Array) -> jax.Array:
        """An action drawn from the distribution with these logits; int32 ``[..., *shape]``."""
        keys = [key] if self.scalar else jax.random.split(key, len(self.sizes))
        parts = zip(keys, self.split(logits), strict=True)
        return self._joined([jax.random.categorical(k, part) for k, part in parts])

    def draw_any(self, key: jax.Array) -> jax.Array:
        """An action drawn uniformly; int32 ``[*shape]``."""
        return jax.random.randint(key, self.shape, 0, self.none)

    def log_prob(self, logits: jax.Array, action: jax.Array) -> jax.Array:
        """Log-probability of actions under logits; float32 [...]."""
        return sum(
            jnp.take_along_axis(jax.nn.log_softmax(part), number[..., None], -1)[..., 0]
            for part, number in self._pairs(logits, action)
        )

    def entropy(self, logits: jax.Array) -> jax.Array:
        """Entropy of the policies with these logits, in nats; float32 [...]."""
        log_probs = map(jax.nn.log_softmax, self.split(logits))
        return -sum((jnp.exp(log_prob) * log_prob).sum(-1) for log_prob in log_probs)

    def cross_entropy(
        self, logits: jax.Array, action: jax.Array, label_smoothing: float = 0.0
    ) -> jax.Array:
        """Cross-entropy of actions under logits; float32 [...].

        Args:
          logits: [..., num_logits].
          action: ``[..., *shape]``.
          label_smoothing: the share of the target that is spread evenly over all values.
        """
        total = 0.0
        for part, number in self._pairs(logits, action):
            targets = jax.nn.one_hot(number, part.shape[-1])
            smoothed = optax.smooth_labels(targets, label_smoothing)
            total += optax.softmax_cross_entropy(part, smoothed)
        return total

    def equal(self, first: jax.Array, second: jax.Array) -> jax.Array:
        """Whether actions are the same; bool [...]."""
        same = first == second
        return same if self.scalar else same.all(-1)

    def outside(self, action: jax.Array) -> jax.Array:
        """Whether actions are outside the action space; bool [...]."""
        wrong = (action < 0) | (action >= self.none)
        return wrong if self.scalar else wrong.any(-1)

    def _pairs(self, logits: jax.Array, action: jax.Array):
        numbers = jnp.moveaxis(self.components(action), -1, 0)
        return zip(self.split(logits), numbers, strict=True)

    def _joined(self, parts: list[jax.Array]) -> jax.Array:
        return parts[0] if self.scalar else jnp.stack(parts, -1)
