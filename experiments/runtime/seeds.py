"""The models that a run trains at once, one for each training seed.

If there is one model, its windows are shared by all devices. If there are several, each device
trains whole models: nothing is summed over devices, and models that are too small to fill a device
fill it together. If the devices can't share them equally, copies of the last one are trained too,
and not used.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from ad_jax.distributed import sharding


class Seeds:
    """How the models of a run are placed on the devices.

    If there are several, all arrays of a model get a leading axis [slot], which is sharded over the
    devices.

    Attributes:
      numbers: the training seeds.
      slots: the training seed of each slot; the last may be repeated, see the module.

    Args:
      config: of the run.
      mesh: of all its devices.
    """

    def __init__(self, config: ml_collections.ConfigDict, mesh: Mesh):
        self.numbers = [config.seed + i for i in range(config.train.seeds)]
        self._mesh, self._each = mesh, sharding.task_sharding(mesh)
        self._alone = len(self.numbers) == 1
        slots = self.numbers if self._alone else sharding.padded(mesh, np.array(self.numbers))
        self.slots = [int(seed) for seed in slots]

    def stack(self, parts: Sequence[Any]) -> Any:
        """Stacks the values of all slots, which are keys or host arrays."""
        if self._alone:
            return parts[0]
        on_device = lambda x: isinstance(x, jax.Array)
        return jax.tree.map(lambda *x: (jnp if on_device(x[0]) else np).stack(x), *parts)

    def init(self, function: Callable, arguments: Sequence[tuple], shardings: Any) -> Any:
        """The states of all models before training.

        Several are made one after the other: an orthogonal initialiser under vmap can hang for ever
        on a CPU of few cores.

        Args:
          function: from arrays to the state of one.
          arguments: of the function, for each slot.
          shardings: where the states are to live.
        """
        if self._alone:
            first = sharding.put(arguments[0], sharding.replicated(self._mesh))
            return jax.jit(function, out_shardings=shardings)(*first)
        made = itertools.starmap(jax.jit(function), arguments)
        return sharding.put(self.stack(list(map(jax.device_get, made))), self._each)

    def of_all(self, function: Callable, num_shared: int = 0) -> Callable:
        """Turns a function of one model into a function of all models.

        Args:
          function: from arrays to arrays, to be jitted.
          num_shared: how many of its first arguments are the same for all models.
        """
        if self._alone:
            return function
        return sharding.on_each_device(self._mesh, function, num_shared)

    def shardings(self, state: Any, rules: Sequence) -> Any:
        """Where each array of the states lives.

        Args:
          state: shapes of one model's state.
          rules: as for ``sharding.state_shardings``.

        Raises:
          UserError: the states do not fit into the devices' memory.
        """
        if self._alone:
            shardings = sharding.state_shardings(self._mesh, state, rules)
        else:
            shape = lambda x: jax.ShapeDtypeStruct((len(self.slots), *x.shape), x.dtype)
            state = jax.tree.map(shape, state)
            shardings = jax.tree.map(lambda _: self._each, state)
        sharding.check_memory(state, shardings)
        return shardings

    def inputs_sharding(self) -> jax.sharding.NamedSharding:
        """The sharding of a training step's inputs: by window or, with several models, by model."""
        return sharding.batch_sharding(self._mesh) if self._alone else self._each

    def metrics_sharding(self) -> jax.sharding.NamedSharding:
        """The sharding of a training step's scalars: with several models, by model.

        So devices exchange nothing, and none waits for another.
        """
        return sharding.replicated(self._mesh) if self._alone else self._each

    def to_store(self, state: Any) -> Any:
        """The state as checkpoints hold it: with an axis [seed] if there are several models."""
        if self._alone:
            return state
        rows = np.arange(len(self.numbers))
        return self._take(rows, sharding.replicated(self._mesh), state)

    def models(self, params: Any) -> list[Any]:
        """The parameters of each training seed, each on all devices."""
        if self._alone:
            return [params]
        stored = self.to_store(params)
        return [jax.tree.map(lambda x, i=i: x[i], stored) for i in range(len(self.numbers))]

    def from_store(self, state: Any) -> Any:
        """Undoes ``to_store``."""
        if self._alone:
            return state
        rows = np.array(self.slots) - self.numbers[0]
        return self._take(rows, self._each, state)

    def _take(self, rows: np.ndarray, where: jax.sharding.NamedSharding, tree: Any) -> Any:
        return sharding.put(jax.tree.map(lambda x: x[rows], sharding.fetch(tree)), where)

    def fetch(self, scalars: Any) -> Any:
        """Scalars of each model as float arrays [seed]."""
        fetched = jax.device_get(scalars) if self._alone else sharding.fetch(scalars)
        return jax.tree.map(lambda x: np.atleast_1d(x)[: len(self.numbers)], fetched)
