"""What the dark rooms share: a square grid, five moves, an unseen stage of progress."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from ad_jax.envs.arguments import at_least

# left, right, up, down, stay, as steps in (x, y); y grows downwards.
MOVES = np.array([[-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]], np.int32)


@struct.dataclass
class EnvState(environment.EnvState):
    """Where the agent is, and what it has done in this episode.

    Attributes:
      position: int32 [2], the cell (x, y).
      stage: int32, how many of the one-time rewards of this episode were collected.
      time: int32, steps made in this episode.
    """

    position: jax.Array
    stage: jax.Array
    time: jax.Array


class GridWorld(environment.Environment):
    """A square room in which the agent sees its own cell and nothing else.

    A subclass defines the reward of a step (``collect``), the number of stages of an episode
    (``num_stages``) and the task (``EnvParams``). Moves into a wall leave the agent where it is.
    Episodes have a fixed length: they are truncated, never terminated.

    Args:
      size: cells along a side.
      max_steps_in_episode: steps per episode.
      start: "centre", "random" (a new cell every episode), or a cell (x, y).
    """

    version = "1.0.0"  # changes whenever the same actions would lead to another history
    num_stages = 1
    reward_levels = (0.0, 1.0)

    def __init__(self, size: int, max_steps_in_episode: int, start: str | tuple[int, int]):
        super().__init__()
        at_least(1, size=size, max_steps_in_episode=max_steps_in_episode)
        if start not in ("centre", "random"):
            cell = () if isinstance(start, str) else tuple(start)
            if len(cell) != 2 or not all(isinstance(c, int) and 0 <= c < size for c in cell):
                raise ValueError(
                    f"start must be 'centre', 'random' or a cell (x, y), not {start!r}"
                )
            start = cell
        self.size = size
        self.max_steps_in_episode = max_steps_in_episode
        self.start = (size // 2, size // 2) if start == "centre" else start

    def collect(
        self, position: jax.Array, stage: jax.Array, params: Any
    ) -> tuple[jax.Array, jax.Array]:
        """Returns (reward, new stage) of a step that ends at ``position`` in ``stage``."""
        raise NotImplementedError

    def step_env(self, key, state, action, params):
        """Moves, and collects what the new cell holds. See gymnax's ``Environment.step_env``."""
        del key
        position = jnp.clip(state.position + jnp.asarray(MOVES)[action], 0, self.size - 1)
        reward, stage = self.collect(position, state.stage, params)
        state = EnvState(position=position, stage=stage, time=state.time + 1)
        info = {"privileged_observation": self.privileged_observation(state, params)}
        return position, state, reward, jnp.zeros((), bool), info

    def reset_env(self, key, params):
        """Starts an episode at the start cell. See gymnax's ``Environment.reset_env``."""
        if self.start == "random":
            position = jax.random.randint(key, (2,), 0, self.size, jnp.int32)
        else:
            position = jnp.array(self.start, jnp.int32)
        zero = jnp.zeros((), jnp.int32)
        return position, EnvState(position=position, stage=zero, time=zero)

    def observe(self, key, state, action, params):
        """The agent's own cell (x, y), int32 [2]."""
        del key, action, params
        return state.position

    def is_terminated(self, state, params):
        """Never: only the time limit ends an episode."""
        del state, params
        return jnp.zeros((), bool)

    def privileged_observation(self, state: EnvState, params: Any) -> jax.Array:
        """(x, y, stage), int32 [3]: what a source may see, and the distilled model never does."""
        del params
        return jnp.append(state.position, state.stage)

    @property
    def num_actions(self) -> int:
        return len(MOVES)

    def action_space(self, params=None):
        del params
        return spaces.Discrete(len(MOVES))

    def observation_space(self, params=None):
        del params
        return spaces.Box(0, self.size - 1, (2,), jnp.int32)

    def privileged_observation_space(self, params=None):
        """Space of ``privileged_observation``; its bounds are arrays, one per component."""
        del params
        high = np.array([self.size - 1, self.size - 1, self.num_stages - 1], np.int32)
        return spaces.Box(np.zeros(3, np.int32), high, (3,), jnp.int32)

    def state_space(self, params):
        return spaces.Dict(
            {
                "position": self.observation_space(params),
                "stage": spaces.Discrete(self.num_stages),
                "time": spaces.Discrete(self.max_steps_in_episode + 1),
            }
        )

    # What exact dynamic programming needs: all states but for the time, and where episodes start.

    def all_states(self) -> EnvState:
        """All (position, stage) pairs as a batched state, in the order of ``state_index``."""
        stage, y, x = np.indices((self.num_stages, self.size, self.size), np.int32)
        position = np.stack([x, y], -1).reshape(-1, 2)
        stage = stage.reshape(-1)
        return EnvState(position=position, stage=stage, time=np.zeros_like(stage))

    def state_index(self, state: EnvState) -> jax.Array:
        """Index of a state in ``all_states``, whatever its time; int32."""
        x, y = state.position[..., 0], state.position[..., 1]
        return (state.stage * self.size + y) * self.size + x

    def start_distribution(self) -> np.ndarray:
        """Probability that an episode starts in each of ``all_states``; float32 [states]."""
        cells = self.size**2
        probability = np.zeros(self.num_stages * cells, np.float32)
        if self.start == "random":
            probability[:cells] = 1 / cells
        else:
            probability[self.start[1] * self.size + self.start[0]] = 1
        return probability

    def known_state(self, observation: jax.Array, stage: jax.Array, time: jax.Array) -> EnvState:
        """The state of an agent that has counted the rewards of this episode."""
        return EnvState(position=observation, stage=stage, time=time)


def cells(ids: np.ndarray, size: int) -> np.ndarray:
    """Cells (x, y) of ids that count row by row; int32 [..., 2]."""
    return np.stack([ids % size, ids // size], -1).astype(np.int32)
