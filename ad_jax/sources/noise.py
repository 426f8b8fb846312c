"""A noise curriculum as a source: an optimal policy whose random actions fade (AD^ε).

Zisman et al., arXiv:2312.12275: histories of gradual improvement without a learner. They improve
because of the schedule and not because of what was found, so a model distilled from them has less
to infer. This source is here for comparison.
"""

import dataclasses
from typing import Any

import optax

from ad_jax.actions import Actions
from ad_jax.errors import UserError
from ad_jax.evaluation.agents import has_optimal_agent, noisy_agent, optimal_agent
from ad_jax.interfaces import Source
from ad_jax.sources.scripted import agent_source


@dataclasses.dataclass(frozen=True)
class NoiseConfig:
    """Settings of the noise curriculum.

    Attributes:
      num_streams: histories side by side.
      rollout_steps: steps of an update.
      epsilon_start: initial share of random actions.
      epsilon_end: final share of random actions.
      epsilon_steps: steps of a history over which that share falls linearly.
    """

    num_streams: int = 8
    rollout_steps: int = 20
    epsilon_start: float = 1.0
    epsilon_end: float = 0.0
    epsilon_steps: int = 1600


def noise(env: Any, config: NoiseConfig) -> Source:
    """An optimal policy under fading noise, on one task of ``env``.

    Args:
      env: a gymnax environment whose optimal policy is known; see ``optimal_agent``.
      config: see NoiseConfig.

    Returns:
      A Source; an update is History [num_streams, rollout_steps].

    Raises:
      UserError: no optimal policy is known.
    """
    if not has_optimal_agent(env):
        raise UserError(
            f"source.name='noise' can't be used in {env.name}: no optimal policy is known"
        )
    epsilon = optax.linear_schedule(
        config.epsilon_start, config.epsilon_end, max(1, config.epsilon_steps)
    )
    return agent_source(
        env,
        lambda env_params: noisy_agent(
            optimal_agent(env, env_params), Actions.of(env), lambda _, time: epsilon(time)
        ),
        config.num_streams,
        config.rollout_steps,
    )
