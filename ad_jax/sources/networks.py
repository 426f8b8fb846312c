"""Policy and value networks of the source learners."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ad_jax.envs import spaces
from ad_jax.models.images import ImageEncoder

# A network over at most this many observations is evaluated on all of them and looked up.
MAX_TABLE = 1024


class Features(nn.Module):
    """Inputs of a learner's MLP: a one-hot vector per discrete component, floats, or a picture.

    Attributes:
      space: observation space of a single observation.
      encoder: of pictures; see ImageEncoder.
      render: draws the picture of an observation, where the observation stands for one.
    """

    space: Any
    encoder: str = "resnet"
    render: Callable[[jax.Array], jax.Array] | None = None

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        """observation ``[..., *space.shape]`` → float32 [..., features]."""
        if self.render is not None:
            return ImageEncoder(self.encoder, name="encoder")(self.render(observation))
        kind = spaces.kind(self.space)
        if kind == "image":
            return ImageEncoder(self.encoder, name="encoder")(observation)
        lead = observation.shape[: observation.ndim - len(self.space.shape)]
        observation = observation.reshape(*lead, -1)
        if kind == "continuous":
            return observation.astype(jnp.float32)
        observation = observation - spaces.lowest(self.space)
        sizes = spaces.component_sizes(self.space)
        one_hots = [jax.nn.one_hot(observation[..., i], n) for i, n in enumerate(sizes)]
        return jnp.concatenate(one_hots, -1)


class ActorCritic(nn.Module):
    """Separate tanh MLPs for the policy and the value, with zero-initialised heads.

    Attributes:
      space: observation space of a single observation.
      num_logits: of the policy; see ``Actions``.
      hidden: widths of the hidden layers.
    """

    space: Any
    num_logits: int
    hidden: Sequence[int]

    @nn.compact
    def __call__(self, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        """observation ``[..., *space.shape]`` → (logits [..., num_logits], value [...])."""
        features = Features(self.space, name="features")(observation)

        def mlp(name: str, outputs: int) -> jax.Array:
            h = features
            for i, width in enumerate(self.hidden):
                h = nn.tanh(nn.Dense(width, name=f"{name}_{i}")(h))
            head = nn.Dense(outputs, kernel_init=nn.initializers.zeros, name=f"{name}_head")
            return head(h)

        return mlp("policy", self.num_logits), mlp("value", 1)[..., 0]


class QNetwork(nn.Module):
    """A ReLU MLP for the values of all actions.

    Attributes:
      space, encoder, render: see Features.
      num_actions: size of the action space.
      hidden: widths of the hidden layers.
    """

    space: Any
    num_actions: int
    hidden: Sequence[int]
    encoder: str = "resnet"
    render: Callable[[jax.Array], jax.Array] | None = None

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        """observation ``[..., *space.shape]`` → action values, float32 [..., actions]."""
        h = Features(self.space, self.encoder, self.render, name="features")(observation)
        for i, width in enumerate(self.hidden):
            h = nn.relu(nn.Dense(width, name=f"hidden_{i}")(h))
        return nn.Dense(self.num_actions, kernel_init=nn.initializers.zeros, name="head")(h)


def over_observations(network: nn.Module) -> Callable[[Any], Callable[[jax.Array], Any]]:
    """Binds parameters to a network; in small spaces, it evaluates each observation only once.

    A learner looks at the same few observations many times between two updates of its
    parameters. Where the observation space is small, ``bind(params)`` evaluates the network on
    all of it, and the function it returns looks the results up: the same numbers for less work.

    Args:
      network: a module with an attribute ``space``, the space of its observations.

    Returns:
      ``bind``: ``bind(params)(observation)`` equals ``network.apply(params, observation)``.
    """
    space = network.space
    sizes = spaces.component_sizes(space)
    if sizes is None or math.prod(sizes.tolist()) > MAX_TABLE:
        return lambda params: lambda observation: network.apply(params, observation)

    grid = spaces.from_number(np.arange(sizes.prod()), sizes) + spaces.lowest(space)
    everything = grid.reshape(-1, *space.shape).astype(np.int32)

    def bind(params: Any) -> Callable[[jax.Array], Any]:
        table = network.apply(params, everything)

        def look_up(observation: jax.Array) -> Any:
            lead = observation.shape[: observation.ndim - len(space.shape)]
            digits = observation.reshape(*lead, -1) - spaces.lowest(space)
            index = spaces.to_number(digits, sizes)
            return jax.tree.map(lambda column: column[index], table)

        return look_up

    return bind
