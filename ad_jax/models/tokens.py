"""One token per transition: what the model reads at a step."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ad_jax.actions import Actions
from ad_jax.envs import spaces
from ad_jax.models.images import ImageEncoder

MASKS = ("action", "token")
SCALES = ("observation", "reward")  # inputs whose mean and deviation ``with_scales`` sets
MAX_ONE_HOT = 256  # rows of the largest table that is read by one-hot vectors


class TransitionToken(nn.Module):
    """The sum of the embeddings of o_t, a_{t-1}, r_{t-1} and of whether an episode begins.

    How an observation is embedded depends on its space. Each component of an integer observation
    has its own embedding table (x and y separately), so that a cell that was never rewarded in
    training consists of coordinates that were. Floats and the reward go through a linear map,
    pictures through an encoder.

    In training, inputs are hidden at random positions (paper, Table 3: "input mask"): the whole
    token, or only the previous action, which keeps the model from copying its last actions
    instead of reading the rewards.

    Attributes:
      space: observation space of a single observation.
      actions: the action space; each component has its own embedding table.
      width: of a token.
      image_encoder: of pictures; see ImageEncoder.
      render: renders the pictures of observations, if observations stand for pictures.
      shown: ``shown(observation)`` is what the picture shows, float32 [..., k]. If it is given,
        training also fits a linear map from the picture's features to these numbers, whose mean
        squared error is sown as "shown_error" in the collection "losses".
      normalize: floats are standardised and the reward is divided by its deviation before they are
        embedded. Means and deviations are parameters that are not trained; see ``with_scales``.
      mask: what is hidden, "action" or "token".
      mask_probability: of hiding it at a position; random key "mask".
      dtype: of the computation.
    """

    space: Any
    actions: Actions
    width: int
    image_encoder: str = "pooled"
    render: Callable[[jax.Array], jax.Array] | None = None
    shown: Callable[[jax.Array], jax.Array] | None = None
    normalize: bool = False
    mask: str = "action"
    mask_probability: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, observation, previous_action, previous_reward, is_first, *, train: bool):
        """Embeds transitions.

        Args:
          observation: ``[..., *space.shape]``.
          previous_action: int32 ``[..., *actions.shape]``; ``actions.none`` where there was none.
          previous_reward: float32 [...].
          is_first: bool [...].
          train: hide inputs.

        Returns:
          Tokens, dtype [..., width].
        """
        masked = jnp.zeros(previous_reward.shape, bool)
        if train and self.mask_probability:
            key = self.make_rng("mask")
            masked = jax.random.bernoulli(key, self.mask_probability, masked.shape)

        def embed(name: str, size: int, index: jax.Array) -> jax.Array:
            return _Table(int(size), self.width, dtype=self.dtype, name=name)(index)

        components = self.actions.components(previous_action)
        token = jnp.zeros((), self.dtype)
        for i, size in enumerate(self.actions.sizes):
            number = components[..., i]
            if self.mask == "action":
                number = jnp.where(masked, size + 1, number)
            name = "action" if self.actions.scalar else f"action_{i}"
            token += embed(name, size + 2, number)  # two more: no previous action, and masked
        token += embed("is_first", 2, is_first.astype(jnp.int32))
        reward = previous_reward[..., None]
        if self.normalize:
            reward = Standardize(name="reward_scale")(reward)
        token += nn.Dense(self.width, use_bias=False, dtype=self.dtype, name="reward")(reward)
        kind = "image" if self.render else spaces.kind(self.space)
        if kind == "discrete":
            components = observation.reshape(*previous_reward.shape, -1)
            components = components - spaces.lowest(self.space)
            for i, size in enumerate(spaces.component_sizes(self.space)):
                if size > 1:  # else it is constant
                    token += embed(f"observation_{i}", size, components[..., i])
        else:
            if kind == "image":
                image = self.render(observation) if self.render else observation
                features = ImageEncoder(self.image_encoder, self.dtype)(image, train=train)
                if self.shown and (train or self.is_initializing()):
                    told = self.shown(observation)
                    guess = nn.Dense(told.shape[-1], dtype=jnp.float32, name="shown")(features)
                    if not self.is_initializing():
                        self.sow("losses", "shown_error", ((guess - told) ** 2).mean())
            else:
                features = observation.reshape(*previous_reward.shape, -1)
                if self.normalize:
                    features = Standardize(name="observation_scale")(features)
            token += nn.Dense(self.width, dtype=self.dtype, name="observation")(features)
        if self.mask == "token":
            hidden = self.param("mask", nn.initializers.normal(0.02), (self.width,))
            token = jnp.where(masked[..., None], hidden.astype(self.dtype), token)
        return token


class Standardize(nn.Module):
    """(x - mean) / deviation of each component; 0 and 1 until ``with_scales`` sets them."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = x.shape[-1:]
        mean = jax.lax.stop_gradient(self.param("mean", nn.initializers.zeros, shape))
        deviation = jax.lax.stop_gradient(self.param("deviation", nn.initializers.ones, shape))
        return (x.astype(jnp.float32) - mean) / deviation


def with_scales(params: Any, statistics: Mapping[str, Any]) -> Any:
    """Sets the means and deviations of a model that normalises to those of a data set.

    The mean of rewards stays 0, so that a reward of 0, as before the first step, stays 0.

    Args:
      params: {"params": {"embed": …}}, as a SequenceModel has them.
      statistics: of ``SCALES``, each with a "mean" and a "deviation", float [components].
    """
    embed = dict(params["params"]["embed"])
    for name in SCALES:
        if (scale := embed.get(f"{name}_scale")) is not None:
            mean, deviation = (jnp.asarray(statistics[name][k]) for k in ("mean", "deviation"))
            embed[f"{name}_scale"] = {
                "mean": scale["mean"] if name == "reward" else mean.astype(jnp.float32),
                "deviation": jnp.where(deviation > 0, deviation, 1.0).astype(jnp.float32),
            }
    return {**params, "params": {**params["params"], "embed": embed}}


class _Table(nn.Embed):
    """An embedding by matrix product with a one-hot vector, where the table is small.

    The values and gradients are the same as for a look-up. But the gradient of a look-up adds many
    rows to a few places, one after the other; on a GPU this would be most of a training step.
    """

    def __call__(self, index: jax.Array) -> jax.Array:
        if self.num_embeddings > MAX_ONE_HOT:
            return super().__call__(index)
        one_hot = jax.nn.one_hot(index, self.num_embeddings, dtype=self.dtype)
        return jnp.dot(one_hot, self.embedding.astype(self.dtype), precision="highest")
