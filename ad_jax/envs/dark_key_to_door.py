"""Dark Key-to-Door (paper, section 4 and appendix): find a key, then a door, seeing neither."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment

from ad_jax.envs.grid_world import GridWorld, cells
from ad_jax.envs.tasks import TaskDistribution


@struct.dataclass
class EnvParams(environment.EnvParams):
    """The task: the cells (x, y) of the key and of the door, int32 [2] each."""

    key: jax.Array = struct.field(default_factory=lambda: jnp.zeros(2, jnp.int32))
    door: jax.Array = struct.field(default_factory=lambda: jnp.zeros(2, jnp.int32))
    max_steps_in_episode: int = 50


class DarkKeyToDoor(GridWorld):
    """A 9×9 room: 1 once for the key, then 1 once for the door; 50 steps, a random start.

    The stages are 0 (no key), 1 (holds the key) and 2 (went through the door). One thing happens
    per step: where key and door share a cell, the door opens on the step after the key is found.
    """

    num_stages = 3

    def __init__(self, size: int = 9, max_steps_in_episode: int = 50, start="random"):
        super().__init__(size, max_steps_in_episode, start)

    @property
    def default_params(self) -> EnvParams:
        """The task with the key in the first corner and the door in the last."""
        return EnvParams(
            door=jnp.full(2, self.size - 1, jnp.int32),
            max_steps_in_episode=jnp.int32(self.max_steps_in_episode),
        )

    def collect(self, position, stage, params):
        finds_key = (stage == 0) & jnp.all(position == params.key)
        opens_door = (stage == 1) & jnp.all(position == params.door)
        progress = finds_key | opens_door
        return progress.astype(jnp.float32), stage + progress.astype(jnp.int32)

    def tasks(self) -> TaskDistribution:
        """One task for each pair of cells; the cell of the door varies fastest."""
        num_cells = self.size**2

        def params(ids: np.ndarray) -> EnvParams:
            ids = np.asarray(ids)
            return EnvParams(
                key=jnp.asarray(cells(ids // num_cells, self.size)),
                door=jnp.asarray(cells(ids % num_cells, self.size)),
                max_steps_in_episode=jnp.full(ids.shape, self.max_steps_in_episode, jnp.int32),
            )

        return TaskDistribution(params=params, num_tasks=num_cells**2)
