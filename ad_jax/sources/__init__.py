"""Sources of histories: one is a file here and one line in ``SOURCES``."""

from ad_jax.interfaces import SourceSpec
from ad_jax.sources.a2c import A2CConfig, a2c
from ad_jax.sources.bandits import ThompsonConfig, UCBConfig, thompson, ucb
from ad_jax.sources.dqn import DQNConfig, dqn
from ad_jax.sources.noise import NoiseConfig, noise
from ad_jax.sources.ppo import PPOConfig, ppo
from ad_jax.sources.rmax import RMaxConfig, rmax
from ad_jax.sources.search import SearchConfig, search

SOURCES: dict[str, SourceSpec] = {
    "ppo": SourceSpec(ppo, PPOConfig),
    "a2c": SourceSpec(a2c, A2CConfig),
    "dqn": SourceSpec(dqn, DQNConfig),
    "ucb": SourceSpec(ucb, UCBConfig),
    "thompson": SourceSpec(thompson, ThompsonConfig),
    "rmax": SourceSpec(rmax, RMaxConfig),
    "search": SourceSpec(search, SearchConfig),
    "noise": SourceSpec(noise, NoiseConfig),
}
