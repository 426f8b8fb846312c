"""Watermaze (paper, section 4): find a platform under water by the landmarks on the walls.

The original is a level of DeepMind Lab. This is a room with the same measures and the same motion:
distances are in units of that level, time in ticks of 16 ms, and ``raycast`` draws the frames.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from ad_jax.envs import raycast
from ad_jax.envs.arguments import at_least
from ad_jax.envs.tasks import TaskDistribution

# For each action: motion forward, motion to the right, and turn to the left.
ACTIONS = np.array(
    [
        [1, 0, 0],  # forward
        [-1, 0, 0],  # back
        [0, -1, 0],  # strafe left
        [0, 1, 0],  # strafe right
        [0, 0, 1],  # turn left
        [0, 0, -1],  # turn right
        [1, 0, 1],  # forward and turn left
        [1, 0, -1],  # forward and turn right
    ],
    np.float32,
)
GOAL_MODES = ("terminate", "terminate_next", "stay", "once", "respawn")

PLATFORM_RADIUS = 79.0  # an octagon of apothem 64, and the player's half-width
DISC_RADIUS = 580.0  # platforms, and random starts, lie in this disc
PLAYER_HALF_WIDTH = 15
KEEP_IN = raycast.APOTHEM - PLAYER_HALF_WIDTH

# Motion as in Quake: first, friction brakes in proportion to the speed, which counts as at least
# STOP_SPEED; then the speed in the direction that the action asks for grows, up to MAX_SPEED.
TICK = 0.016  # seconds
MAX_SPEED = 320.0  # units per second
ACCELERATION = 10.0
FRICTION = 6.0
STOP_SPEED = 100.0
TURN_PER_TICK = 132 / 360 * raycast.TURN * TICK  # 1/65536 turns
# Velocity along the wished direction ends at MAX_SPEED at most, and what is perpendicular to it
# only brakes; so no component of the velocity exceeds this.
SPEED_BOUND = MAX_SPEED / np.sqrt(1 - (1 - FRICTION * TICK) ** 2)

_WALL_ANGLES = np.arange(raycast.NUM_WALLS) * (2 * np.pi / raycast.NUM_WALLS)
_NORMALS = np.stack([np.cos(_WALL_ANGLES), np.sin(_WALL_ANGLES)], -1).astype(np.float32)


@struct.dataclass
class EnvParams(environment.EnvParams):
    """The task: ``platform`` is its centre, float32 [2], in units from the centre of the room."""

    platform: jax.Array = struct.field(default_factory=lambda: jnp.zeros(2, jnp.float32))
    max_steps_in_episode: int = 50


@struct.dataclass
class EnvState(environment.EnvState):
    """Where the player is, how it moves, and whether it has been on the platform.

    Attributes:
      pose: int32 [3], x and y in 1/16 units, yaw in 1/65536 turns counterclockwise.
      velocity: float32 [2], units per second.
      stage: int32, 0 before the platform was found in this episode, 1 afterwards; with goal_mode
        "terminate_next" 2 after one step more.
      time: int32, steps made in this episode.
    """

    pose: jax.Array
    velocity: jax.Array
    stage: jax.Array
    time: jax.Array


class WatermazeDynamics(environment.Environment):
    """A round pool with a hidden platform; 50 steps. Subclasses say what the agent observes.

    The paper does not say what happens after the reward; its returns of at most 1 per episode fit
    "once". Nor does it give the start or the number of ticks per action. A start in the centre is
    fair to all platforms. Its yaw is random; otherwise, an agent could solve a task by repeating a
    sequence of actions without looking.

    Args:
      max_steps_in_episode: steps per episode.
      goal_mode: what being on the platform at the end of a step does. "terminate": reward 1, the
        episode ends; the next observation is of the new episode, so the agent never sees the place
        that paid.
        "terminate_next": reward 1, the episode ends one step later. "stay": reward 1 on every such
        step. "once": reward 1 the first time in an episode, which goes on. "respawn": reward 1, and
        the player is put at a random pose, from where it may find the platform again.
      start: "centre" or "random" (a new place in the disc of the platforms every episode), both
        with a random yaw; or a pose (x, y, yaw).
      action_repeat: ticks per step; a turn is 2.1 degrees, and a run 5.1 units, per tick.

    Raises:
      ValueError: an argument is not one of these.
    """

    version = "1.0.0"  # changes whenever the same actions would lead to another history
    render_version = raycast.RENDERER_VERSION
    num_stages = 3
    reward_levels = (0.0, 1.0)

    def __init__(
        self,
        max_steps_in_episode: int = 50,
        goal_mode: str = "once",
        start: str | tuple[int, int, int] = "centre",
        action_repeat: int = 4,
    ):
        super().__init__()
        at_least(1, max_steps_in_episode=max_steps_in_episode, action_repeat=action_repeat)
        if goal_mode not in GOAL_MODES:
            raise ValueError(f"goal_mode must be one of {list(GOAL_MODES)}, not {goal_mode!r}")
        if start not in ("centre", "random"):
            start = _checked_pose(start)
        self.max_steps_in_episode = max_steps_in_episode
        self.goal_mode = goal_mode
        self.start = start
        self.action_repeat = action_repeat
        self.turn_per_step = round(TURN_PER_TICK * action_repeat)

    @property
    def default_params(self) -> EnvParams:
        """The task whose platform is half way from the centre to the wall that x points at."""
        return EnvParams(
            platform=jnp.array([raycast.APOTHEM / 2, 0], jnp.float32),
            max_steps_in_episode=jnp.int32(self.max_steps_in_episode),
        )

    def tasks(self) -> TaskDistribution:
        """Platforms uniform in a disc of radius 580; the id seeds the draw."""

        def params(ids: np.ndarray) -> EnvParams:
            ids = np.asarray(ids, np.int64)
            radius = DISC_RADIUS * np.sqrt(_uniform(2 * ids))
            angle = 2 * np.pi * _uniform(2 * ids + 1)
            platform = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)
            return EnvParams(
                platform=jnp.asarray(platform, jnp.float32),
                max_steps_in_episode=jnp.full(ids.shape, self.max_steps_in_episode, jnp.int32),
            )

        return TaskDistribution(params=params, num_tasks=None)

    def step_env(self, key, state, action, params):
        """Moves for ``action_repeat`` ticks. See gymnax's ``Environment.step_env``.

        ``key`` is only used by goal_mode "respawn".
        """
        pose, velocity = self._move(state.pose, state.velocity, action)
        offset = pose[:2] / raycast.POSITION_SCALE - params.platform
        on_platform = (offset**2).sum() <= PLATFORM_RADIUS**2
        once = self.goal_mode in ("once", "terminate_next")
        paid = on_platform & (state.stage == 0) if once else on_platform
        if self.goal_mode == "respawn":
            pose = jnp.where(on_platform, _random_pose(key, DISC_RADIUS), pose)
            velocity = jnp.where(on_platform, 0.0, velocity)
        stage = jnp.maximum(state.stage, on_platform.astype(jnp.int32))
        if self.goal_mode == "terminate_next":
            stage += state.stage
        state = EnvState(pose=pose, velocity=velocity, stage=stage, time=state.time + 1)
        info = {"privileged_observation": self.privileged_observation(state, params)}
        return pose, state, paid.astype(jnp.float32), self.is_terminated(state, params), info

    def _move(self, pose, velocity, action):
        """The rounded pose and the velocity after one step."""
        ahead, rightwards, turn = jnp.asarray(ACTIONS)[action]
        turned = turn * TURN_PER_TICK * np.arange(1, self.action_repeat + 1)
        forward, right = _directions((pose[2] + turned) * (2 * np.pi / raycast.TURN))

        def tick(moving, wish):
            position, velocity = moving
            velocity = _accelerate(velocity, wish)
            return _slide(position + velocity * TICK, velocity), None

        moving = pose[:2] / raycast.POSITION_SCALE, velocity
        (position, velocity), _ = jax.lax.scan(tick, moving, ahead * forward + rightwards * right)
        bound = KEEP_IN * raycast.POSITION_SCALE
        x_y = jnp.clip(jnp.rint(position * raycast.POSITION_SCALE), -bound, bound)
        yaw = (pose[2] + turn.astype(jnp.int32) * self.turn_per_step) % raycast.TURN
        return jnp.append(x_y.astype(jnp.int32), yaw), velocity

    def reset_env(self, key, params):
        """Starts an episode at rest. See gymnax's ``Environment.reset_env``."""
        del params
        if self.start in ("centre", "random"):
            pose = _random_pose(key, DISC_RADIUS if self.start == "random" else 0.0)
        else:
            pose = jnp.array(self.start, jnp.int32)
        zero = jnp.zeros((), jnp.int32)
        return pose, EnvState(pose=pose, velocity=jnp.zeros(2), stage=zero, time=zero)

    def is_terminated(self, state, params):
        """Whether the episode ends early: only in the two "terminate" goal modes."""
        del params
        last = {"terminate": 1, "terminate_next": 2}
        return state.stage == last.get(self.goal_mode, self.num_stages)

    def privileged_observation(self, state: EnvState, params: EnvParams) -> jax.Array:
        """What a source may see instead of frames: the state as features, float32 [7].

        They are x and y divided by the room's apothem, cosine and sine of the yaw, the velocity
        divided by the running speed, and 1 once the platform was found. The position of the
        platform is not among them.
        """
        del params
        stage = (state.stage > 0)[None].astype(jnp.float32)
        return jnp.concatenate([pose_features(state.pose), state.velocity / MAX_SPEED, stage])

    def optimal_return(self, params: EnvParams) -> jax.Array | None:
        """The best expected return of an episode, float32; None where it is not known.

        From the centre, every platform is within 501 units: at most 26 steps of running and 21 of
        turning. So if episodes of 47 steps or more pay once, the optimal return is 1.
        """
        if self.goal_mode in ("stay", "respawn") or self.start != "centre":
            return None
        if self.max_steps_in_episode < 47 or self.action_repeat < 4:
            return None
        return jnp.ones(params.platform.shape[:-1])

    def shortest_path_action(self, state: EnvState, params: EnvParams) -> jax.Array:
        """The action of an expert that knows the platform: it ends nearest to it; int32."""
        return self._nearing(state.pose, state.velocity, params.platform)

    def _nearing(self, pose: jax.Array, velocity: jax.Array, position: jax.Array) -> jax.Array:
        """The action whose step ends nearest to a position; int32."""

        def distance(action):
            then, _ = self._move(pose, velocity, action)
            return jnp.linalg.norm(then[:2] / raycast.POSITION_SCALE - position)

        return jax.vmap(distance)(jnp.arange(len(ACTIONS))).argmin().astype(jnp.int32)

    @property
    def num_actions(self) -> int:
        return len(ACTIONS)

    def action_space(self, params=None):
        del params
        return spaces.Discrete(len(ACTIONS))

    def pose_space(self) -> spaces.Box:
        """Space of a pose: x and y fit in int16, the yaw in uint16."""
        bound = KEEP_IN * raycast.POSITION_SCALE
        low, high = [-bound, -bound, 0], [bound, bound, raycast.TURN - 1]
        return spaces.Box(np.array(low, np.int32), np.array(high, np.int32), (3,), jnp.int32)

    def privileged_observation_space(self, params=None):
        """Space of ``privileged_observation``; its bounds are arrays, one per component."""
        del params
        speed = SPEED_BOUND / MAX_SPEED
        high = np.array([1, 1, 1, 1, speed, speed, 1], np.float32)
        low = np.append(-high[:-1], 0).astype(np.float32)
        return spaces.Box(low, high, (7,), jnp.float32)

    def state_space(self, params):
        return spaces.Dict(
            {
                "pose": self.pose_space(),
                "velocity": spaces.Box(-SPEED_BOUND, SPEED_BOUND, (2,), jnp.float32),
                "stage": spaces.Discrete(self.num_stages),
                "time": spaces.Discrete(self.max_steps_in_episode + 1),
            }
        )


class _WatermazeOfPoses(WatermazeDynamics):
    """Watermaze whose observation determines the pose (``pose_of``), which experts need."""

    # What the source ``sources.search`` needs.

    reach = 0.75 * PLATFORM_RADIUS

    def places(self) -> np.ndarray:
        """Positions to search, float32 [places, 2]: a hexagonal grid, 1.5 platform radii apart."""
        gap = 2 * self.reach
        y, x = np.mgrid[-8:9, -8:9].astype(np.float32) * gap
        grid = np.stack([x + gap / 2 * (np.arange(-8, 9) % 2)[:, None], y * np.sqrt(0.75)], -1)
        return grid[np.linalg.norm(grid, axis=-1) <= DISC_RADIUS + self.reach]

    def position(self, observation: jax.Array) -> jax.Array:
        """Where an observation is made, in units; float32 [2]."""
        return self.pose_of(observation)[:2] / raycast.POSITION_SCALE

    def action_towards(self, observation: jax.Array, position: jax.Array) -> jax.Array:
        """The action that ends nearest to a position, assuming the player is at rest; int32."""
        return self._nearing(self.pose_of(observation), jnp.zeros(2), position)

    def expert_action(self, observation: jax.Array, params: EnvParams) -> jax.Array:
        """The action of an expert that sees only the pose, and assumes it is at rest; int32."""
        return self.action_towards(observation, params.platform)


class Watermaze(_WatermazeOfPoses):
    """Watermaze whose observation is the *pose*; see ``WatermazeDynamics`` for its arguments.

    Agents are meant to see pictures, but a picture of 20,736 bytes follows from a pose of 6 bytes.
    So histories store poses, and the distilled model renders the frames itself, with
    ``render_observation``, inside its compiled program. The state holds the pose at the precision
    that is stored, so a frame that is rendered later is bit-identical to the original one.
    """

    def render_observation(self, pose: jax.Array) -> jax.Array:
        """Frames from poses: int32 [..., 3] → uint8 [..., 72, 96, 3]."""
        return raycast.render(pose)

    def picture_shows(self, pose: jax.Array) -> jax.Array:
        """What a frame shows, in numbers, ``pose_features``: int32 [..., 3] → float32 [..., 4]."""
        return jnp.vectorize(pose_features, signature="(3)->(4)")(pose)

    def observe(self, key, state, action, params):
        """The pose, int32 [3]; the platform is not to be seen."""
        del key, action, params
        return state.pose

    def observation_space(self, params=None):
        """Space of a pose, int32 [3]."""
        del params
        return self.pose_space()

    def pose_of(self, pose: jax.Array) -> jax.Array:
        """The pose that is observed."""
        return pose


class PoseWatermaze(_WatermazeOfPoses):
    """Watermaze without pictures: the observation is ``pose_features``.

    It separates learning in context from learning to see; the paper has no results on it.
    """

    def observe(self, key, state, action, params):
        """The pose as features, float32 [4]; the platform is not to be seen."""
        del key, action, params
        return pose_features(state.pose)

    def step_env(self, key, state, action, params):
        """One transition without auto-reset. See gymnax's ``Environment.step_env``."""
        pose, *rest = super().step_env(key, state, action, params)
        return pose_features(pose), *rest

    def reset_env(self, key, params):
        """Starts an episode at rest. See gymnax's ``Environment.reset_env``."""
        pose, state = super().reset_env(key, params)
        return pose_features(pose), state

    def observation_space(self, params=None):
        del params
        return spaces.Box(-1.0, 1.0, (4,), jnp.float32)

    def pose_of(self, features: jax.Array) -> jax.Array:
        """The pose whose features are observed."""
        x_y = features[:2] * (raycast.APOTHEM * raycast.POSITION_SCALE)
        yaw = jnp.arctan2(features[3], features[2]) * (raycast.TURN / (2 * np.pi))
        return jnp.rint(jnp.append(x_y, yaw % raycast.TURN)).astype(jnp.int32)


class PixelWatermaze(WatermazeDynamics):
    """Watermaze as an ordinary gymnax environment: the observation is the frame itself.

    It has neither ``render_observation`` nor ``expert_action``, which read poses.

    ``step`` resets the state first and then renders once; gymnax's own ``step`` would render both
    the next state and the reset one. ``info["final_observation"]`` is the frame before the reset,
    as in all environments; a compiled rollout that does not use it does not render it.
    """

    @functools.partial(jax.jit, static_argnames=("self",))
    def step(self, key, state, action, params=None):
        """One transition, with auto-reset. See gymnax's ``Environment.step``."""
        params = self.default_params if params is None else params
        key_step, key_reset = jax.random.split(key)
        pose, state, reward, terminated, info = super().step_env(key_step, state, action, params)
        truncated = self.is_truncated(state, params)
        _, fresh = super().reset_env(key_reset, params)
        done = terminated | truncated
        state = jax.tree.map(lambda new, old: jnp.where(done, new, old), fresh, state)
        info |= {
            "terminated": terminated,
            "truncated": truncated,
            "final_observation": raycast.render(pose),
        }
        return raycast.render(state.pose), state, reward, terminated, truncated, info

    def step_env(self, key, state, action, params):
        """One transition without auto-reset. See gymnax's ``Environment.step_env``."""
        pose, *rest = super().step_env(key, state, action, params)
        return raycast.render(pose), *rest

    def reset_env(self, key, params):
        """Starts an episode at rest. See gymnax's ``Environment.reset_env``."""
        pose, state = super().reset_env(key, params)
        return raycast.render(pose), state

    def observe(self, key, state, action, params):
        """The frame, uint8 [72, 96, 3]; the platform is not to be seen."""
        del key, action, params
        return raycast.render(state.pose)

    def observation_space(self, params=None):
        del params
        return spaces.Box(0, 255, raycast.FRAME_SHAPE, jnp.uint8)


def pose_features(pose: jax.Array) -> jax.Array:
    """x and y divided by the apothem, cosine and sine of the yaw: int32 [3] → float32 [4]."""
    x_y = pose[:2] / (raycast.APOTHEM * raycast.POSITION_SCALE)
    forward, _ = _directions(pose[2] * (2 * np.pi / raycast.TURN))
    return jnp.concatenate([x_y, forward])


def _checked_pose(start) -> tuple[int, int, int]:
    pose = () if isinstance(start, str) or start is None else tuple(np.ravel(start).tolist())
    if len(pose) == 3 and all(isinstance(number, int) for number in pose):
        inside = max(_NORMALS @ np.array(pose[:2]) / raycast.POSITION_SCALE) <= KEEP_IN
        if inside and 0 <= pose[2] < raycast.TURN:
            return pose
    raise ValueError(
        "start must be 'centre', 'random' or a pose inside the room, three whole numbers (x and y "
        f"in 1/16 units, yaw in 1/65536 turns), not {start!r}"
    )


def _random_pose(key: jax.Array, radius: float) -> jax.Array:
    """A pose with a uniform yaw, uniform in a disc; int32 [3]."""
    distance, angle, yaw = jax.random.uniform(key, (3,))
    forward, _ = _directions(2 * np.pi * angle)
    x_y = jnp.rint(radius * raycast.POSITION_SCALE * jnp.sqrt(distance) * forward)
    return jnp.append(x_y, jnp.floor(yaw * raycast.TURN)).astype(jnp.int32)


def _directions(yaw: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Unit vectors forward and to the right, float32 [..., 2] each, for yaws in radians."""
    cosine, sine = jnp.cos(yaw), jnp.sin(yaw)
    return jnp.stack([cosine, sine], -1), jnp.stack([sine, -cosine], -1)


def _accelerate(velocity: jax.Array, wish: jax.Array) -> jax.Array:
    """Velocity after one tick with a wished direction, a unit vector or zero."""
    speed = jnp.sqrt((velocity**2).sum())
    braked = jnp.maximum(speed - jnp.maximum(speed, STOP_SPEED) * FRICTION * TICK, 0.0)
    velocity = velocity * (braked / jnp.maximum(speed, 1.0))
    lacking = jnp.maximum(MAX_SPEED - (velocity * wish).sum(), 0.0)
    return velocity + jnp.minimum(ACCELERATION * MAX_SPEED * TICK, lacking) * wish


def _slide(position: jax.Array, velocity: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Keeps the player inside the walls and removes the part of its velocity into them."""
    for _ in range(2):  # in a corner there are two walls
        outwards = (jnp.asarray(_NORMALS) * position).sum(-1)
        normal, beyond = jnp.asarray(_NORMALS)[outwards.argmax()], outwards.max() - KEEP_IN
        into = jnp.where(beyond > 0, jnp.maximum((velocity * normal).sum(), 0.0), 0.0)
        position = position - jnp.maximum(beyond, 0.0) * normal
        velocity = velocity - into * normal
    return position, velocity


def _uniform(counter: np.ndarray) -> np.ndarray:
    """The float64 in [0, 1) that SplitMix64 (Steele et al., 2014) draws for each integer."""
    z = (np.asarray(counter, np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53
