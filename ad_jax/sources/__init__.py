"""Sources of histories: one is a file here and one line in ``SOURCES``."""

from collections.abc import Callable

from ad_jax.interfaces import Source
from ad_jax.sources.a2c import A2CConfig, a2c
from ad_jax.sources.bandits import ThompsonConfig, UCBConfig, thompson, ucb
from ad_jax.sources.dqn import DQNConfig, dqn
from ad_jax.sources.noise import NoiseConfig, noise
from ad_jax.sources.ppo import PPOConfig, ppo

SOURCES: dict[str, tuple[Callable[..., Source], type]] = {
    "ppo": (ppo, PPOConfig),
    "a2c": (a2c, A2CConfig),
    "dqn": (dqn, DQNConfig),
    "ucb": (ucb, UCBConfig),
    "thompson": (thompson, ThompsonConfig),
    "noise": (noise, NoiseConfig),
}
