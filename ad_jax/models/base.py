"""The model of every method: embed → core → head. A core is what differs between models."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from ad_jax.actions import Actions
from ad_jax.distributed.sharding import FSDP, SEQUENCE
from ad_jax.errors import UserError
from ad_jax.models.images import ENCODERS
from ad_jax.models.tokens import MASKS, TransitionToken

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

# How parameters are sharded: the first pattern that is found in a parameter's path gives the mesh
# axis for each of its axes. The optimiser's statistics of a parameter are sharded in the same way.
Rules = tuple[tuple[str, tuple[str | None, ...]], ...]
SHARED_RULES: Rules = (
    (r"/head/kernel$", (FSDP, None)),
    (r"/embedding$|/positions$|embed/(reward|observation)/kernel$", (None, FSDP)),
    (r"/(bias|scale|mask|ns_coeffs|mean|deviation)$|/ImageEncoder_\d+/|/embed/shown/", ()),
)


@dataclasses.dataclass(frozen=True)
class CoreConfig:
    """What the cores have in common; a core's own config derives from it.

    Attributes:
      width: of a token.
      context: steps of a training window. A core that is not recurrent looks back that many steps,
        including the current one.
      image_encoder: of pictures; see ImageEncoder.
      shown_cost: weight, in distillation, of an auxiliary loss: the error in predicting what a
        picture shows from its features. It needs an environment with
        ``picture_shows(observation)``. 0 is the paper's objective, which has actions only.
      normalize: float observations are standardised and rewards are scaled, by the statistics of
        the data set; see TransitionToken.
      mask: what the input mask hides, "action" or "token"; see TransitionToken.
      mask_probability: of the input mask.
      dtype: of the computation, "float32" or "bfloat16"; parameters are float32.

    Raises:
      UserError: a value is not one of those that are allowed.
    """

    rules: ClassVar[Rules] = ((r"", ()),)  # by default, nothing is sharded
    recurrent: ClassVar[bool] = False  # whether the carry can remember more than ``context`` steps

    width: int = 64
    context: int = 80
    image_encoder: str = "pooled"
    shown_cost: float = 0.0
    normalize: bool = False
    mask: str = "action"
    mask_probability: float = 0.0
    dtype: str = "float32"

    def __post_init__(self):
        for name, allowed in self.choices().items():
            if getattr(self, name) not in allowed:
                raise UserError(f"{name}={getattr(self, name)!r}: choose one of {allowed}")

    def choices(self) -> dict[str, tuple[str, ...]]:
        """The values that each named setting can take."""
        return {"image_encoder": ENCODERS, "mask": MASKS, "dtype": tuple(DTYPES)}

    def check_sequence(self, mesh: Mapping[str, int]) -> None:
        """Raises UserError unless devices along "sequence" can share the steps of a window.

        Args:
          mesh: devices along each of its axes.
        """
        if mesh[SEQUENCE] > 1:
            raise UserError(
                f"mesh.sequence={mesh[SEQUENCE]}: this core takes the steps of a window one after "
                "the other: give 1, and spread the windows by mesh.data or mesh.fsdp"
            )

    def make_core(self) -> nn.Module:
        """The core: a module with these three methods.

        ``__call__(x [B, T, width], train) -> [B, T, features]`` passes over windows from an empty
        memory. ``step(carry, x [width]) -> (carry, [features])`` is the same function, one step of
        one environment at a time. ``initial_carry()`` is the carry of a core that has seen
        nothing; it needs no parameters.
        """
        raise NotImplementedError

    @property
    def max_steps(self) -> int | None:
        """How many steps ``step`` can make; None if there is no limit."""
        return None

    def for_one_window(self) -> "CoreConfig":
        """The config of the same function for single windows, as under ``vmap``."""
        return self


class SequenceModel(nn.Module):
    """Predicts the action at every step from that step and all steps before it.

    Attributes:
      config: of the core; see CoreConfig.
      space: observation space of a single observation.
      actions: the action space.
      render: renders the pictures of observations, if observations stand for pictures. The model
        then sees only the picture.
      shown: what that picture shows, in numbers; see TransitionToken.
      extra_outputs: how many more outputs follow the logits; see ``MethodSpec``.
    """

    config: CoreConfig
    space: Any
    actions: Actions
    render: Callable[[jax.Array], jax.Array] | None = None
    shown: Callable[[jax.Array], jax.Array] | None = None
    extra_outputs: int = 0

    def setup(self):
        c = self.config
        self.embed = TransitionToken(
            self.space, self.actions, c.width, c.image_encoder, self.render,
            self.shown, c.normalize, c.mask, c.mask_probability, DTYPES[c.dtype],
        )  # fmt: skip
        self.core = c.make_core()
        nn.share_scope(self, self.core)  # its parameters are named as if they were the model's own
        # Small, so that training begins at the entropy of the uniform policy.
        self.head = nn.Dense(
            self.actions.num_logits + self.extra_outputs,
            dtype=jnp.float32,
            kernel_init=nn.initializers.normal(0.02),
        )

    def __call__(
        self, observation, previous_action, previous_reward, is_first, *, train: bool = False
    ) -> jax.Array:
        """Logits for windows.

        Args:
          observation: ``[B, T, *space.shape]``; T is at most ``context`` unless the core is
            recurrent.
          previous_action: int32 ``[B, T, *actions.shape]``; ``actions.none`` where there was none.
          previous_reward: float32 [B, T].
          is_first: bool [B, T].
          train: drop and mask, with random keys "dropout" and "mask".

        Returns:
          float32 [B, T, logits + extra outputs].
        """
        x_BxTxE = self.embed(observation, previous_action, previous_reward, is_first, train=train)
        return self.head(self.core(x_BxTxE, train))

    def step(self, carry, observation, previous_action, previous_reward, is_first):
        """Logits for the next step of one environment; to be vmapped.

        This gives the same as a pass over all steps seen so far. A core that looks back ``context``
        steps does so only for the first ``context`` steps. After that, the oldest step is dropped
        at each step, but what later steps have already read from it remains.

        Args:
          carry: from ``initial_carry`` or the last call.
          observation: ``[*space.shape]``; the others as in ``__call__``, without axes.

        Returns:
          (new carry, float32 [logits + extra outputs]).
        """
        x_E = self.embed(observation, previous_action, previous_reward, is_first, train=False)
        carry, y = self.core.step(carry, x_E)
        return carry, self.head(y)

    @nn.nowrap
    def initial_carry(self):
        """The carry of a model that has seen nothing."""
        return self.config.make_core().initial_carry()
