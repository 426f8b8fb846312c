"""The models that a run trains at once, one of each training seed.

All devices share the windows of a single model. Of several, each device has whole models of its
own: nothing is summed over devices, and what is too small to keep one busy fills it. Where the
devices do not share them equally, the last is trained on more than one, to no end.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from ad_jax import parallel


class Seeds:
    """How the models of a run lie on the devices.

    Where there are several, all arrays of a model get a leading axis [slot], which is spread over
    the devices.

    Attributes:
      numbers: the training seeds.
      slots: the training seed of each slot.

    Args:
      config: of the run.
      mesh: of all its devices.
    """

    def __init__(self, config: ml_collections.ConfigDict, mesh: Mesh):
        self.numbers = [config.seed + i for i in range(config.train.seeds)]
        self._mesh = mesh
        self._alone = len(self.numbers) == 1
        slots = self.numbers if self._alone else parallel.padded(mesh, np.array(self.numbers))
        self.slots = [int(seed) for seed in slots]

    def stack(self, parts: Sequence[Any]) -> Any:
        """What each slot has, keys or arrays on the host, as one."""
        if self._alone:
            return parts[0]
        on_device = lambda x: isinstance(x, jax.Array)
        return jax.tree.map(lambda *x: (jnp if on_device(x[0]) else np).stack(x), *parts)

    def of_all(self, function: Callable, num_shared: int = 0) -> Callable:
        """A function of one model as one of all.

        Args:
          function: from arrays to arrays, to be jitted.
          num_shared: so many of its first arguments are the same for all models.
        """
        if self._alone:
            return function
        return parallel.on_each_device(self._mesh, function, num_shared)

    def shardings(self, state: Any, rules: Sequence) -> Any:
        """Where each array of a state lives; arguments as of ``parallel.state_shardings``."""
        if self._alone:
            return parallel.state_shardings(self._mesh, state, rules)
        return jax.tree.map(lambda _: parallel.over_tasks(self._mesh), state)

    def inputs_sharding(self) -> jax.sharding.NamedSharding:
        """Where what a training step reads lives: its windows or, of several models, each one's."""
        spread = parallel.over_windows if self._alone else parallel.over_tasks
        return spread(self._mesh)

    def to_store(self, state: Any) -> Any:
        """The state as a checkpoint holds it: with an axis [seed], the same on any devices."""
        if self._alone:
            return state
        return self._take(np.arange(len(self.numbers)), parallel.replicated(self._mesh), state)

    def from_store(self, state: Any) -> Any:
        """Undoes ``to_store``."""
        if self._alone:
            return state
        rows = np.array(self.slots) - self.numbers[0]
        return self._take(rows, parallel.over_tasks(self._mesh), state)

    def _take(self, rows: np.ndarray, sharding: jax.sharding.NamedSharding, tree: Any) -> Any:
        take = lambda tree: jax.tree.map(lambda x: x[rows], tree)
        return jax.jit(take, out_shardings=sharding)(tree)

    def by_seed(self, values: np.ndarray) -> np.ndarray:
        """Of a scalar of each model as it was fetched: float [seed]."""
        return np.atleast_1d(values)[: len(self.numbers)]
