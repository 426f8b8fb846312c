"""Dark Room and Dark Room Hard (paper, section 4 and appendix): find a goal you can't see."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment

from ad_jax.envs.grid_world import GridWorld, cells
from ad_jax.envs.tasks import TaskDistribution


@struct.dataclass
class EnvParams(environment.EnvParams):
    """The task: ``goal`` is the rewarded cell (x, y), int32 [2]."""

    goal: jax.Array = struct.field(default_factory=lambda: jnp.zeros(2, jnp.int32))
    max_steps_in_episode: int = 20


class DarkRoom(GridWorld):
    """A 9×9 room with a hidden goal: reward 1 on every step that ends at the goal; 20 steps."""

    def __init__(self, size: int = 9, max_steps_in_episode: int = 20, start="centre"):
        super().__init__(size, max_steps_in_episode, start)

    @property
    def default_params(self) -> EnvParams:
        """The task whose goal is the corner (0, 0)."""
        return EnvParams(max_steps_in_episode=jnp.int32(self.max_steps_in_episode))

    def collect(self, position, stage, params):
        at_goal = jnp.all(position == params.goal)
        return at_goal.astype(jnp.float32), stage

    def tasks(self) -> TaskDistribution:
        """One task for each cell of the room, numbered row by row."""

        def params(ids: np.ndarray) -> EnvParams:
            ids = np.asarray(ids)
            return EnvParams(
                goal=jnp.asarray(cells(ids, self.size)),
                max_steps_in_episode=jnp.full(ids.shape, self.max_steps_in_episode, jnp.int32),
            )

        return TaskDistribution(params=params, num_tasks=self.size**2)


class DarkRoomHard(DarkRoom):
    """A 17×17 room in which the goal pays once in an episode; 20 steps."""

    num_stages = 2

    def __init__(self, size: int = 17, max_steps_in_episode: int = 20, start="centre"):
        super().__init__(size, max_steps_in_episode, start)

    def collect(self, position, stage, params):
        found = jnp.all(position == params.goal) & (stage == 0)
        return found.astype(jnp.float32), stage + found.astype(jnp.int32)
