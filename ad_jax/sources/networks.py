"""Policy and value networks of the source learners."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ad_jax.envs.spaces import component_sizes, lowest

# A network over at most this many observations is evaluated on all of them and looked up.
MAX_TABLE = 1024


class ActorCritic(nn.Module):
    """Separate tanh MLPs for the policy and the value, with zero-initialised heads.

    Integer observations enter as one one-hot vector per component, others as they are.

    Attributes:
      space: observation space of a single observation.
      num_actions: size of the action space.
      hidden: widths of the hidden layers.
    """

    space: Any
    num_actions: int
    hidden: Sequence[int]

    @nn.compact
    def __call__(self, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        """observation [..., *space.shape] → (logits [..., actions], value [...]), float32."""
        lead = observation.shape[: observation.ndim - len(self.space.shape)]
        observation = observation.reshape(*lead, -1)
        sizes = component_sizes(self.space)
        if sizes is None:
            features = observation.astype(jnp.float32)
        else:
            observation = observation - lowest(self.space)
            one_hots = [jax.nn.one_hot(observation[..., i], n) for i, n in enumerate(sizes)]
            features = jnp.concatenate(one_hots, -1)

        def mlp(name: str, outputs: int) -> jax.Array:
            h = features
            for i, width in enumerate(self.hidden):
                h = nn.tanh(nn.Dense(width, name=f"{name}_{i}")(h))
            head = nn.Dense(outputs, kernel_init=nn.initializers.zeros, name=f"{name}_head")
            return head(h)

        return mlp("policy", self.num_actions), mlp("value", 1)[..., 0]


def over_observations(network: nn.Module) -> Callable[[Any], Callable[[jax.Array], Any]]:
    """Binds parameters to a network, so that few observations are evaluated only once.

    A learner looks at the same few observations many times between two updates of its
    parameters. Where the observation space is small, ``bind(params)`` evaluates the network on
    all of it, and the function it returns looks the results up: the same numbers for less work.

    Args:
      network: a module with an attribute ``space``, the space of its observations.

    Returns:
      ``bind``: ``bind(params)(observation)`` equals ``network.apply(params, observation)``.
    """
    space = network.space
    sizes = component_sizes(space)
    if sizes is None or math.prod(sizes.tolist()) > MAX_TABLE:
        return lambda params: lambda observation: network.apply(params, observation)

    strides = np.cumprod(np.append(1, sizes[:-1])).astype(np.int32)
    grid = np.arange(np.prod(sizes))[:, None] // strides % sizes + lowest(space)
    everything = grid.reshape(-1, *space.shape).astype(np.int32)

    def bind(params: Any) -> Callable[[jax.Array], Any]:
        table = network.apply(params, everything)

        def look_up(observation: jax.Array) -> Any:
            lead = observation.shape[: observation.ndim - len(space.shape)]
            index = ((observation.reshape(*lead, -1) - lowest(space)) * strides).sum(-1)
            return jax.tree.map(lambda column: column[index], table)

        return look_up

    return bind
