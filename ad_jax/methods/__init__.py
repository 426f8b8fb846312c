"""How models are trained. A method is one file here and one line in ``METHODS``."""

from ad_jax.interfaces import MethodSpec
from ad_jax.methods.ad import AD
from ad_jax.methods.dicp import DICP
from ad_jax.methods.dpt import DPT
from ad_jax.methods.ed import ED
from ad_jax.methods.iql import ICIQL
from ad_jax.methods.rl2 import RL2

METHODS: dict[str, MethodSpec] = {
    "AD": AD,
    "DICP": DICP,
    "DPT": DPT,
    "ED": ED,
    "ICIQL": ICIQL,
    "RL2": RL2,
}
