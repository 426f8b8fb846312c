"""In-context planning: algorithm distillation with a learnt world model to plan in.

Son et al. (arXiv:2502.19009, DICP-AD): besides the learner's action, the model predicts the outcome
of every action: the next observation, the reward, and whether the episode ends. To act, it looks
for the actions with the highest predicted return by beam search, in which it simulates the task
with its own predictions, and takes the first of them. As in the paper's grid worlds, the return is
that within the planning horizon. Where an environment names its ``reward_levels``, the nearest of
these is predicted. So as long as the model sees no reward ahead, all actions are equally good, and
then it acts like algorithm distillation. Where rewards are random or may be any number, it always
takes the action with the highest prediction, and explores less.

The paper breaks ties in the order of the sampled actions. Here the beam is one of stochastic beam
search (Kool et al., arXiv:1903.06059): among equally good sequences of actions, those that are kept
are a sample from the policy without replacement.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

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

_PREDICTED = 2  # outputs for each action, besides the observation: reward, end


@dataclasses.dataclass(frozen=True)
class DICPConfig(ADConfig):
    """Settings of in-context planning, in addition to those of algorithm distillation.

    Attributes:
      model_cost: weight of the world model's losses; that of rewards is a squared error divided by
        the variance of the rewards.
      beam_size: number of action sequences that are kept while planning.
      horizon: their length, including the next action; 0 does not plan, and acts like AD. In Dark
        Room, the paper's 8 is clearly worse than the default.
      discount: of predicted rewards per step, so that the sooner of two rewards counts more.
    """

    model_cost: float = 1.0
    beam_size: int = 10
    horizon: int = 1
    discount: float = 0.99


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
    return Actions.of(env).number("method='DICP'") * (int(sizes.sum()) + _PREDICTED)


def make(model, optimizer, env, env_params, settings: DICPConfig) -> Method:
    """DICP as a Method; see ``MethodSpec.make``."""
    del env_params  # it learns from stored histories alone
    loss = lambda params, batch, key: dicp_loss(model, params, batch, key, settings)
    update = gradient_update(loss, optimizer, settings.accumulate)
    method = of_windows(model, optimizer, settings, update)
    if not settings.horizon:
        return method
    levels = getattr(env, "reward_levels", None)
    return method._replace(agent=partial(planning_agent, model, levels, settings))


DICP = MethodSpec(
    make=make,
    settings=DICPConfig,
    group="train",
    reads="windows",
    extra_outputs=_extra_outputs,
)


def outcomes(model: Any, out: jax.Array) -> tuple[list[jax.Array], jax.Array, jax.Array]:
    """What a model's outputs predict for every action.

    Args:
      model: with the extra outputs of ``DICP``.
      out: its outputs, [...].

    Returns:
      (logits of each component of the next observation, [..., actions, values]; the reward; the
      logit of the episode's end, both [..., actions]).
    """
    split = np.cumsum(_sizes(model.space))
    of_actions = out[..., model.actions.num_logits :]
    of_actions = of_actions.reshape(*out.shape[:-1], model.actions.num_logits, -1)
    *components, rest = jnp.split(of_actions, split, -1)
    return components, rest[..., 0], rest[..., 1]


def outcome_of(
    model: Any, out: jax.Array, action: jax.Array
) -> tuple[list[jax.Array], jax.Array, jax.Array]:
    """What a model's outputs predict for one action, int32 [...]; see ``outcomes``."""
    at = lambda x, index: jnp.take_along_axis(x, index, action.ndim).squeeze(action.ndim)
    components, reward, end = outcomes(model, out)
    one = action[..., None]
    return [at(part, one[..., None]) for part in components], at(reward, one), at(end, one)


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
    components, predicted_reward, predicted_end = outcome_of(model, out[:, :-1], action[:, :-1])
    reward, ends = batch["previous_reward"][:, 1:], batch["is_first"][:, 1:]
    mean = lambda x, known: (x * known).sum() / jnp.maximum(known.sum(), 1)
    observation = batch["observation"][:, 1:].reshape(*ends.shape, -1) - spaces.lowest(model.space)
    observation_loss = sum(
        mean(optax.softmax_cross_entropy_with_integer_labels(part, observation[..., i]), ~ends)
        for i, part in enumerate(components)
    )
    reward_loss = ((predicted_reward - reward) ** 2).mean() / variance(reward)
    end_loss = optax.sigmoid_binary_cross_entropy(predicted_end, ends).mean()
    model_loss = observation_loss + reward_loss + end_loss

    total = imitation + settings.model_cost * model_loss
    accuracy = actions.equal(actions.best(logits), action).mean()
    return total, {
        "loss": total,
        "accuracy": accuracy,
        "observation_loss": observation_loss,
        "reward_loss": reward_loss,
    }


class Beam(NamedTuple):
    """Sequences of actions and where the model expects them to lead, [beam_size, ...].

    Attributes:
      first: int32, the first action.
      memory, out: the model's carry, and its outputs for the next action.
      score: the predicted return, discounted; -inf where there is no sequence.
      goes_on: bool, whether the episode has not ended.
      log_prob: of the actions under the policy.
      drawn: ``log_prob`` plus noise of a Gumbel distribution; the highest of all sequences of a
        length are a sample without replacement.
    """

    first: jax.Array
    memory: Any
    out: jax.Array
    score: jax.Array
    goes_on: jax.Array
    log_prob: jax.Array
    drawn: jax.Array


def planning_agent(
    model: Any,
    levels: Sequence[float] | None,
    settings: DICPConfig,
    params: Any,
    *,
    mode: str = "fast",
    temperature: float | jax.Array = 1.0,
) -> Agent:
    """A frozen model that plans.

    Args:
      model: with the extra outputs of ``DICP``.
      levels: the rewards of the environment, of which the nearest is predicted; None for any.
      settings: see DICPConfig; the horizon is 1 or more.
      params: of the model.
      mode: must be "fast": plans continue from the model's carry.
      temperature: of the policy; 0 prefers the most probable of equally good actions.

    Raises:
      UserError: it is another mode.
    """
    if mode != "fast":
        raise UserError(f"evaluation.mode={mode!r}: DICP plans from its memory: give 'fast'")
    size, num_actions = settings.beam_size, model.actions.num_logits
    lowest, shape = spaces.lowest(model.space), model.space.shape
    sharp = jnp.equal(temperature, 0)

    def read(memory, observation, action, reward, is_first):
        return model.apply(params, memory, observation, action, reward, is_first, method="step")

    def among_levels(reward):
        if levels is None:
            return reward
        values = jnp.asarray(levels, jnp.float32)
        return values[jnp.abs(reward[..., None] - values).argmin(-1)]

    def draw_all(key, beam):
        """(log-probabilities, draws) of each sequence with each next action, [size, actions]."""
        logits = beam.out[:, :num_actions] / jnp.where(sharp, 1, temperature)
        log_prob = beam.log_prob[:, None] + jax.nn.log_softmax(logits)
        noise = jnp.where(sharp, 0.0, jax.random.gumbel(key, log_prob.shape))
        return log_prob, with_maximum(log_prob + noise, beam.drawn[:, None])

    def best(beam, key, depth):
        """(index, next action, and reward, score, log_prob, drawn) of the best continuations."""
        reward = among_levels(outcomes(model, beam.out)[1])
        gained = jnp.where(beam.goes_on[:, None], settings.discount**depth * reward, 0.0)
        score = beam.score[:, None] + gained
        # A sequence whose episode has ended goes on in one way only.
        goes_on = beam.goes_on[:, None]
        score = jnp.where(goes_on | (jnp.arange(num_actions) == 0), score, -jnp.inf)
        of_beam = beam.log_prob[:, None], beam.drawn[:, None]
        drawn = (jnp.where(goes_on, *x) for x in zip(draw_all(key, beam), of_beam, strict=True))
        found = reward, score, *drawn
        reward, score, log_prob, drawn = (x.reshape(-1) for x in found)
        order = jnp.lexsort((-drawn, -score))[:size]
        chosen = (x[order] for x in (reward, score, log_prob, drawn))
        return order // num_actions, (order % num_actions).astype(jnp.int32), *chosen

    def extended(beam, step):
        key, depth = step
        index, action, reward, score, log_prob, drawn = best(beam, key, depth)
        beam = jax.tree.map(lambda x: x[index], beam)
        components, _, end = outcome_of(model, beam.out, action)
        number = jnp.stack([logits.argmax(-1) for logits in components], -1)
        observation = (number.astype(jnp.int32) + lowest.reshape(-1)).reshape(size, *shape)
        begins = jnp.zeros(size, bool)
        memory, out = jax.vmap(read)(beam.memory, observation, action, reward, begins)
        first = jnp.where(depth == 0, action, beam.first)
        return Beam(first, memory, out, score, beam.goes_on & (end < 0), log_prob, drawn), None

    def plan(key, memory, out):
        copied = lambda x: jnp.broadcast_to(x, (size, *x.shape))
        alone = jnp.where(jnp.arange(size) == 0, 0.0, -jnp.inf)
        beam = Beam(
            first=jnp.zeros(size, jnp.int32),
            memory=jax.tree.map(copied, memory),
            out=copied(out),
            score=alone,
            goes_on=jnp.ones(size, bool),
            log_prob=jnp.zeros(size),
            drawn=alone,
        )
        keys, last = jax.random.split(key, settings.horizon), settings.horizon - 1
        beam, _ = jax.lax.scan(extended, beam, (keys[:last], jnp.arange(last)))
        index, action, *_ = best(beam, keys[last], last)
        return beam.first[index[0]] if last else action[0]

    def act(memory, *seen):
        key, inner = memory
        key, key_plan = jax.random.split(key)
        inner, out = read(inner, *seen)
        return (key, inner), plan(key_plan, inner, out)

    return Agent(init=lambda key: (key, model.initial_carry()), act=act)


def with_maximum(drawn: jax.Array, maximum: jax.Array) -> jax.Array:
    """Gumbel draws given that their maximum is another one (Kool et al., appendix B.3).

    Args:
      drawn: float32 [..., k], log-probabilities plus independent noise.
      maximum: float32 [..., 1].

    Returns:
      float32 [..., k], in the same order.
    """
    highest = drawn.max(-1, keepdims=True)
    rest = maximum - drawn + jnp.log1p(-jnp.exp(drawn - highest))
    return maximum - jnp.maximum(0.0, rest) - jnp.log1p(jnp.exp(-jnp.abs(rest)))
