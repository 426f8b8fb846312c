"""Algorithm Distillation in JAX: environments, source learners, model, training and evaluation.

A trained learner, in three lines::

    learner = ad_jax.load("dark_room")
    state = learner.reset(seed=0)
    action, state = learner.act(state, observation, reward, done)

``load``, ``shipped`` and ``Learner`` are imported from ``ad_jax.learner`` on first use. Importing
that module starts JAX's backend, and the processes of a run must connect to each other before that.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ad_jax.gymnasium as gymnasium
    from ad_jax.learner import Learner, load, shipped

__version__ = "0.1.0"
__all__ = ["Learner", "gymnasium", "load", "shipped"]


def __getattr__(name: str) -> Any:
    if name == "gymnasium":
        return importlib.import_module("ad_jax.gymnasium")
    if name in __all__:
        return getattr(importlib.import_module("ad_jax.learner"), name)
    raise AttributeError(f"module 'ad_jax' has no attribute {name!r}")
