"""XLand-MiniGrid (Nikulin et al., arXiv:2312.12044): rooms with objects and hidden goals.

The environment comes from the package xminigrid, an extra (``pip install '.[xland]'``). A task is a
ruleset: which objects there are, and what has to be done with them. The goal is not observed.

The package's benchmarks, with up to millions of rulesets, are downloaded on first use. If no
benchmark is named, rulesets are generated here, like the simplest ones of the package: objects
can't be turned into others, and the goal is to hold an object, to stand next to it, or to put it
next to another one.
"""

import importlib.metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from ad_jax.envs.tasks import TaskDistribution
from ad_jax.errors import UserError

KINDS = (3, 4, 5, 7, 11, 12)  # balls, squares, pyramids, keys, hexagons, stars
COLOURS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
HOLD, NEAR, TILE_NEAR = 1, 3, 4  # goals, by the package's numbers
_ENCODING = 5  # of a goal: its number, and one or two tiles


@struct.dataclass
class EnvParams(environment.EnvParams):
    """The task: ``goal``, ``rules`` and ``init_tiles`` of a ruleset, uint8."""

    goal: Any = None
    rules: Any = None
    init_tiles: Any = None
    max_steps_in_episode: Any = 1


@struct.dataclass
class EnvState(environment.EnvState):
    """The package's ``timestep``, and ``time``, the steps made in this episode."""

    timestep: Any
    time: jax.Array


class XLand(environment.Environment):
    """Rooms of XLand-MiniGrid; reaching the goal ends an episode and pays 1 to 0.1, less if late.

    The agent sees tiles and colours in front of it. A source with ``privileged=True`` also sees
    what the agent holds.

    Args:
      rooms: "R1", "R2", "R4", "R6" or "R9", how many there are.
      size: cells along a side, walls included.
      view_size: cells along a side of what is seen, an odd number.
      benchmark: the package's name of a benchmark, such as "trivial-21k"; "" generates rulesets
        here.
      num_objects: objects in a room, 2 to 16, if rulesets are generated here.
      max_steps_in_episode: steps per episode; None for the package's 3 size².
      seed: of the draw of the objects that a goal does not need, if rulesets are generated here.

    Raises:
      UserError: the package is not installed, or has no such benchmark.
      ValueError: ``num_objects`` is out of range.
    """

    def __init__(
        self,
        rooms: str = "R1",
        size: int = 9,
        view_size: int = 5,
        benchmark: str = "",
        num_objects: int = 4,
        max_steps_in_episode: int | None = None,
        seed: int = 0,
    ):
        super().__init__()
        try:
            import xminigrid
        except ImportError as error:
            raise UserError("env.name='XLand' needs xminigrid: pip install '.[xland]'") from error
        if not 2 <= num_objects <= 16:
            raise ValueError(f"num_objects must be from 2 to 16, not {num_objects!r}")
        self.version = f"xminigrid {importlib.metadata.version('xminigrid')}, 1.0.0"
        shape = {"height": size, "width": size, "view_size": view_size, "grid_type": rooms}
        limit = max_steps_in_episode or 3 * size * size
        usual: Any
        self._world, usual = xminigrid.make("XLand-MiniGrid-R1-9x9")
        self._usual = usual.replace(**shape, max_steps=limit)
        self.max_steps_in_episode, self.view_size = limit, view_size
        self._drawn = not benchmark
        if self._drawn:
            self._rulesets = _draw(num_objects, seed)
        else:
            known = xminigrid.registered_benchmarks()
            if benchmark not in known:
                raise UserError(f"env.kwargs.benchmark={benchmark!r}: choose one of {known}")
            found = xminigrid.load_benchmark(benchmark)
            rulesets = found.goals, found.rules, found.init_tiles
            self._rulesets = tuple(np.asarray(x) for x in rulesets)

    @property
    def default_params(self) -> EnvParams:
        """The first task."""
        return jax.tree.map(lambda x: x[0], self._params(np.zeros(1, np.int32)))

    def _params(self, ids: np.ndarray) -> EnvParams:
        goal, rules, init_tiles = (jnp.asarray(x[np.asarray(ids)]) for x in self._rulesets)
        limit = jnp.full(len(goal), self.max_steps_in_episode, jnp.int32)
        return EnvParams(goal=goal, rules=rules, init_tiles=init_tiles, max_steps_in_episode=limit)

    def _inner(self, params: EnvParams) -> Any:
        """The package's parameters for a task."""
        ruleset = self._usual.ruleset.replace(
            goal=params.goal, rules=params.rules, init_tiles=params.init_tiles
        )
        return self._usual.replace(ruleset=ruleset)

    def step_env(self, key, state, action, params):
        """One step of the package's. See gymnax's ``Environment.step_env``."""
        del key
        timestep = self._world.step(self._inner(params), state.timestep, action)
        state = EnvState(timestep=timestep, time=state.time + 1)
        info = {"privileged_observation": self.privileged_observation(state, params)}
        reward = jnp.asarray(timestep.reward, jnp.float32)
        return self.observe(None, state, None, params), state, reward, timestep.discount == 0, info

    def reset_env(self, key, params):
        """Objects and agent at random places. See gymnax's ``Environment.reset_env``."""
        timestep = self._world.reset(self._inner(params), key)
        state = EnvState(timestep=timestep, time=jnp.zeros((), jnp.int32))
        return self.observe(None, state, None, params), state

    def observe(self, key, state, action, params):
        """Tiles and colours in front of the agent, int32 [view, view, 2]."""
        del key, action, params
        return state.timestep.observation.astype(jnp.int32)

    def privileged_observation(self, state: EnvState, params: Any) -> jax.Array:
        """What is seen and what is held, int32 [view² · 2 + 2]."""
        seen = self.observe(None, state, None, params).reshape(-1)
        return jnp.concatenate([seen, state.timestep.state.agent.pocket.astype(jnp.int32)])

    def is_terminated(self, state, params):
        """Whether the goal is reached."""
        del params
        return state.timestep.discount == 0

    @property
    def num_actions(self) -> int:
        return self._world.num_actions(self._usual)

    def action_space(self, params=None):
        """Forward, right, left, pick up, put down, toggle."""
        del params
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params=None):
        del params
        shape = (self.view_size, self.view_size, 2)
        return _tiles(shape)

    def privileged_observation_space(self, params=None):
        """Space of ``privileged_observation``."""
        del params
        return _tiles((2 * self.view_size**2 + 2,))

    def tasks(self) -> TaskDistribution:
        """One task for each ruleset; if these are generated here, one for each goal."""
        return TaskDistribution(params=self._params, num_tasks=len(self._rulesets[0]))


def _tiles(shape: tuple[int, ...]) -> spaces.Box:
    """Pairs of a tile and a colour, row by row."""
    from xminigrid.core.constants import NUM_COLORS, NUM_TILES

    pairs = np.tile(np.array([NUM_TILES - 1, NUM_COLORS - 1], np.int32), np.prod(shape) // 2)
    high = pairs.reshape(shape)
    return spaces.Box(np.zeros_like(high), high, shape, jnp.int32)


def _draw(num_objects: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rulesets of all goals: (goals, rules, objects), uint8 [task, ...]."""
    from xminigrid.core.rules import MAX_RULE_ENCODING_LEN

    rng = np.random.default_rng(seed)
    objects = [(kind, colour) for kind in KINDS for colour in COLOURS]
    number = len(objects)
    pairs = [(HOLD, i) for i in range(number)] + [(NEAR, i) for i in range(number)]
    pairs += [(TILE_NEAR, i, j) for i in range(number) for j in range(i)]
    goals = np.zeros((len(pairs), _ENCODING), np.uint8)
    tiles = np.zeros((len(pairs), num_objects, 2), np.uint8)
    for task, (kind, *needed) in enumerate(pairs):
        others = [i for i in rng.permutation(number) if i not in needed]
        there = [*needed, *others[: num_objects - len(needed)]]
        flat = [value for i in needed for value in objects[i]]
        goals[task, : 1 + len(flat)] = [kind, *flat]
        tiles[task] = [objects[i] for i in there]
    return goals, np.zeros((len(pairs), 1, MAX_RULE_ENCODING_LEN), np.uint8), tiles
