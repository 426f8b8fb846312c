"""In-context planning: algorithm distillation with a learnt world model to plan in.

Son et al. (arXiv:2502.19009, DICP-AD): besides the learner's action, the model predicts the outcome
of every action: the next observation, the reward, whether the episode ends, and the return from
here to the end of the episode. To act, it samples several plans, simulates each of them for some
steps with its own predictions, and takes the first action of the one with the highest predicted
return. Where the predicted returns are equal, it acts like algorithm distillation. Here plans are
sampled independently; the paper uses beam search.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ad_jax.actions import Actions
from ad_jax.envs import spaces
from ad_jax.errors import UserError
from ad_jax.interfaces import Agent, Method, MethodSpec
from ad_jax.losses import variance
from ad_jax.methods.ad import ADConfig, of_windows
from ad_jax.methods.train_state import gradient_update, training_output

_TOLD = 3  # outputs for each action, besides the observation: reward, end, return


@dataclasses.dataclass(frozen=True)
class DICPConfig(ADConfig):
    """Settings of in-context planning, in addition to those of algorithm distillation.

    Attributes:
      model_cost: weight of the world model's losses; those of rewards and returns are squared
        errors divided by the variance of their targets.
      plans: number of plans that are compared.
      horizon: steps of each plan, including the next one; 1 compares actions by their predicted
        returns.
    """

    model_cost: float = 0.3
    plans: int = 8
    horizon: int = 4


def _sizes(space: Any) -> np.ndarray:
    """Values of each component of an observation."""
    sizes = spaces.component_sizes(space)
    if sizes is None or sizes.max() > spaces.MAX_VALUES:
        raise UserError(
            "method='DICP' predicts each component of an observation: it needs whole numbers, with "
            f"at most {spaces.MAX_VALUES} values each"
        )
    return sizes


def _extra_outputs(env: Any) -> int:
    sizes = _sizes(env.observation_space(env.default_params))
    return Actions.of(env).number("method='DICP'") * (int(sizes.sum()) + _TOLD)


def make(model, optimizer, env, env_params, settings: DICPConfig) -> Method:
    """DICP as a Method; see ``MethodSpec.make``."""
    del env, env_params  # it learns from stored histories alone
    loss = lambda params, batch, key: dicp_loss(model, params, batch, key, settings)
    update = gradient_update(loss, optimizer, settings.accumulate)
    method = of_windows(model, optimizer, settings, update)
    return method._replace(agent=partial(planning_agent, model, settings))


DICP = MethodSpec(
    make=make,
    settings=DICPConfig,
    group="train",
    reads="windows",
    extra_outputs=_extra_outputs,
)


def told(model: Any, out: jax.Array, action: jax.Array) -> tuple[list[jax.Array], jax.Array]:
    """What a model's outputs predict for an action.

    Args:
      model: with the extra outputs of ``DICP``.
      out: its outputs, [...].
      action: int32 [...].

    Returns:
      (logits of each component of the next observation, [..., 3]: the reward, the logit of the
      episode's end, and the return to its end).
    """
    sizes = _sizes(model.space)
    of_actions = out[..., model.actions.num_logits :]
    of_actions = of_actions.reshape(*action.shape, model.actions.num_logits, -1)
    chosen = jnp.take_along_axis(of_actions, action[..., None, None], -2)[..., 0, :]
    *components, rest = jnp.split(chosen, np.cumsum(sizes), -1)
    return components, rest


def dicp_loss(
    model: Any, params: Any, batch: dict[str, jax.Array], key: jax.Array, settings: DICPConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Cross-entropy of the source's actions, plus the losses of their predicted outcomes.

    Args:
      model: with the extra outputs of ``DICP``.
      params: its parameters.
      batch: as ``to_batch`` returns it.
      key: for dropout and the input mask.
      settings: see DICPConfig.

    Returns:
      (loss, metrics).
    """
    actions, action = model.actions, batch["action"]
    out = training_output(model, params, batch, key)
    logits = out[..., : actions.num_logits]
    imitation = actions.cross_entropy(logits, action, settings.label_smoothing).mean()

    # What follows the last step of a window is not in it, nor is the end of its last episode.
    components, rest = told(model, out[:, :-1], action[:, :-1])
    reward, ends = batch["previous_reward"][:, 1:], batch["is_first"][:, 1:]
    mean = lambda x, known: (x * known).sum() / jnp.maximum(known.sum(), 1)
    observation = batch["observation"][:, 1:].reshape(*ends.shape, -1) - spaces.lowest(model.space)
    observation_loss = sum(
        mean(optax.softmax_cross_entropy_with_integer_labels(part, observation[..., i]), ~ends)
        for i, part in enumerate(components)
    )
    reward_loss = ((rest[..., 0] - reward) ** 2).mean() / variance(reward)
    end_loss = optax.sigmoid_binary_cross_entropy(rest[..., 1], ends).mean()
    returns, known = returns_to_go(reward, ends)
    return_loss = mean((rest[..., 2] - returns) ** 2, known) / variance(returns, known)
    model_loss = observation_loss + reward_loss + end_loss + return_loss

    total = imitation + settings.model_cost * model_loss
    accuracy = actions.equal(actions.best(logits), action).mean()
    return total, {
        "loss": total,
        "accuracy": accuracy,
        "observation_loss": observation_loss,
        "reward_loss": reward_loss,
        "return_loss": return_loss,
    }


def returns_to_go(reward_BxT: jax.Array, ends_BxT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(return from each step to its episode's end, whether that end is in the window), [B, T]."""

    def step(following, seen):
        later, known = following
        reward, ends = seen
        now = reward + jnp.where(ends, 0.0, later), known | ends
        return now, now

    first = jnp.zeros(len(reward_BxT)), jnp.zeros(len(reward_BxT), bool)
    _, found = jax.lax.scan(step, first, (reward_BxT.T, ends_BxT.T), reverse=True)
    returns_TxB, known_TxB = found
    return returns_TxB.T, known_TxB.T


def planning_agent(
    model: Any,
    settings: DICPConfig,
    params: Any,
    *,
    mode: str = "fast",
    temperature: float | jax.Array = 1.0,
) -> Agent:
    """A frozen model that plans.

    Args:
      model: with the extra outputs of ``DICP``.
      settings: see DICPConfig.
      params: of the model.
      mode: must be "fast": plans continue from the model's carry.
      temperature: of the actions that are sampled for plans; 0 takes the most probable ones.

    Raises:
      UserError: it is another mode.
    """
    if mode != "fast":
        raise UserError(f"evaluation.mode={mode!r}: DICP plans from its memory: give 'fast'")
    lowest, shape = spaces.lowest(model.space), model.space.shape
    sharp = jnp.equal(temperature, 0)

    def read(memory, observation, action, reward, is_first):
        return model.apply(params, memory, observation, action, reward, is_first, method="step")

    def draw(key, out):
        logits = out[: model.actions.num_logits]
        drawn = model.actions.draw(key, logits / jnp.where(sharp, 1, temperature))
        return jnp.where(sharp, model.actions.best(logits), drawn).astype(jnp.int32)

    def course(memory, out, key):
        """(first action, predicted return) of one sampled plan."""

        def dream(state, key):
            memory, out, goes_on, total = state
            action = draw(key, out)
            components, rest = told(model, out, action)
            number = jnp.stack([logits.argmax(-1) for logits in components])
            observation = (number.astype(jnp.int32) + lowest).reshape(shape)
            total += jnp.where(goes_on, rest[0], 0.0)
            goes_on &= rest[1] < 0
            memory, out = read(memory, observation, action, rest[0], jnp.zeros((), bool))
            return (memory, out, goes_on, total), action

        key, key_last = jax.random.split(key)
        keys = jax.random.split(key, settings.horizon - 1)
        start = memory, out, jnp.ones((), bool), jnp.zeros(())
        (_, out, goes_on, total), actions = jax.lax.scan(dream, start, keys)
        last = draw(key_last, out)
        _, rest = told(model, out, last)
        actions = jnp.append(actions, last)
        return actions[0], total + jnp.where(goes_on, rest[2], 0.0)

    def act(memory, *seen):
        key, inner = memory
        key, key_plans = jax.random.split(key)
        inner, out = read(inner, *seen)
        keys = jax.random.split(key_plans, settings.plans)
        actions, promised = jax.vmap(partial(course, inner, out))(keys)
        return (key, inner), actions[jnp.argmax(promised)]

    return Agent(init=lambda key: (key, model.initial_carry()), act=act)
