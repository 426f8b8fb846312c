"""Models: a core is one file here and one line in ``CORES``."""

from ad_jax.models.base import CoreConfig
from ad_jax.models.gru import GRUConfig
from ad_jax.models.lstm import LSTMConfig
from ad_jax.models.rglru import RGLRUConfig
from ad_jax.models.transformer import TransformerConfig

CORES: dict[str, type[CoreConfig]] = {
    "transformer": TransformerConfig,
    "lstm": LSTMConfig,
    "gru": GRUConfig,
    "rglru": RGLRUConfig,
}
