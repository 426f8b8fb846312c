"""The training step of a preset, and the shapes of its batches."""

import importlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from ad_jax import build
from ad_jax.distributed import sharding
from ad_jax.envs.spaces import observation_dtype
from ad_jax.methods import ad
from ad_jax.methods.optimizer import make_optimizer
from ad_jax.methods.train_state import init_state
from ad_jax.models.base import SequenceModel


def load(preset: str) -> ml_collections.ConfigDict:
    """The config of "ENVIRONMENT:PRESET"."""
    module, name = preset.split(":")
    return importlib.import_module(f"experiments.configs.{module}").get_config(name)


def training(config: ml_collections.ConfigDict):
    """(the model, ``init(key) -> state``, ``update(state, batch, key) -> (state, metrics)``)."""
    model = build.model(config, build.world(config).env)
    optimizer = make_optimizer(build.optimizer(config), config.train.steps)
    update = ad.make_update(model, optimizer, config.train.label_smoothing, config.train.accumulate)
    return model, lambda key: init_state(key, model, optimizer), update


def flops(config: ml_collections.ConfigDict, params: Any) -> float:
    """FLOPs of training on one transition, counting the matrix products that are needed.

    Six per parameter of a dense layer (two forward, four backward), and twelve per layer, unit of
    width and transition that a query attends to (causal: on average half of the context).
    Recomputation does not count.

    Args:
      config: of an experiment.
      params: of its model, or their shapes.
    """
    kernels = sum(
        leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if jax.tree_util.keystr(path).endswith("['kernel']")
    )
    m = config.model
    seen = (m.context + 1) / 2
    if m.attention_window:
        seen = np.minimum(np.arange(m.context) + 1, m.attention_window).mean()
    return 6 * kernels + 12 * m.num_layers * m.width * float(seen)


def repeated(init, update, batch):
    """A function that does one training step on all devices, as in a run, and returns its metrics.

    Args: as of ``started``.
    """
    state, advance = started(init, update, batch)
    box = {"state": state}

    def step():
        box["state"], metrics = advance(box["state"])
        return metrics

    return step


def started(init, update, batch):
    """Training on all devices, as in a run: (its first state, ``advance(state)``).

    ``advance`` makes one step, (state, metrics), and its argument is donated.

    Args:
      init, update: as of ``training``.
      batch: the one that it always learns from.
    """
    mesh = sharding.make_mesh()
    replicated = sharding.replicated(mesh)
    update = sharding.jit_on_mesh(mesh, update, donate_argnums=0, out_shardings=replicated)
    key = sharding.put(jax.random.key(0), replicated)
    batch = sharding.put(batch, sharding.batch_sharding(mesh))
    state = jax.jit(init, out_shardings=replicated)(key)
    return state, lambda state: update(state, batch, key)


def batch_shapes(
    config: ml_collections.ConfigDict, model: SequenceModel, sharding: Any = None
) -> dict[str, jax.ShapeDtypeStruct]:
    """Of a batch of windows, [batch, context, ...]."""
    windows = config.train.batch_size, config.model.context
    fields = {
        "observation": (model.space.shape, observation_dtype(model.space)),
        "previous_action": ((), jnp.int32),
        "previous_reward": ((), jnp.float32),
        "is_first": ((), jnp.bool_),
        "action": ((), jnp.int32),
    }
    return {
        name: jax.ShapeDtypeStruct((*windows, *shape), dtype, sharding=sharding)
        for name, (shape, dtype) in fields.items()
    }
