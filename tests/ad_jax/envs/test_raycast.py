"""Frames are a function of the pose alone, and show the intended room."""

import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ad_jax.envs import raycast

TURN, SCALE = raycast.TURN, raycast.POSITION_SCALE
THETA = np.arange(16) * 2 * np.pi / 16
NORMALS = np.stack([np.cos(THETA), np.sin(THETA)], -1)
EIGHTH, STEP_OF_TURNING = TURN // 8, 1538

render = jax.jit(raycast.render)


def random_poses(n, radius, seed=0):
    """Uniform in a disc; int32 [n, 3]."""
    rng = np.random.default_rng(seed)
    distance, angle = radius * np.sqrt(rng.random(n)), rng.random(n) * 2 * np.pi
    x_y = distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    yaw = rng.integers(TURN, size=(n, 1))
    return np.concatenate([np.rint(x_y * SCALE), yaw], -1).astype(np.int32)


def pose(x, y, yaw):
    """From units and 1/65536 turns."""
    return np.array([x * SCALE, y * SCALE, yaw % TURN], np.int32)


def difference(a, b):
    """Mean absolute difference of the pixels of each frame, in 1/255."""
    return np.abs(np.asarray(a, int) - np.asarray(b, int)).mean((-3, -2, -1))


def near_colour(frame, colour, tolerance=60):
    """Which pixels have about this colour, bool [..., 72, 96]."""
    return np.abs(np.asarray(frame, int) - np.array(colour)).sum(-1) < tolerance


# Frames are a function of the pose alone.


def test_every_way_of_compiling_draws_the_same_bits():
    poses = random_poses(24, 744)
    batch = np.asarray(render(poses))
    assert batch.shape == (24, 72, 96, 3) and batch.dtype == np.uint8
    one_by_one = np.stack([render(p) for p in poses])
    nested = jax.jit(jax.vmap(jax.vmap(raycast.render)))(poses.reshape(4, 6, 3))
    scanned = jax.jit(lambda p: jax.lax.scan(lambda _, x: (None, raycast.render(x)), None, p)[1])
    for other in (one_by_one, nested.reshape(batch.shape), scanned(poses)):
        np.testing.assert_array_equal(batch, other)
    # Operation by operation, so that nothing at all is fused.
    with jax.disable_jit():
        np.testing.assert_array_equal(batch[:4], raycast.render(poses[:4]))


def test_full_optimization_draws_the_same_bits():
    poses = random_poses(64, 744, seed=1)
    plain = np.asarray(render(poses))
    jax.config.update("jax_disable_most_optimizations", False)
    optimized = jax.jit(lambda p: raycast.render(p))(poses)
    jax.config.update("jax_disable_most_optimizations", True)
    np.testing.assert_array_equal(plain, optimized)


def test_golden_frames():
    """No pixel changes by accident.

    Every intermediate float is exact or rounded once, so this holds on every machine that rounds
    divisions correctly. After an intended change, update RENDERER_VERSION along with the hash: data
    sets of the previous version can't be rendered any more.
    """
    rng = np.random.default_rng(2)
    poses = np.append(rng.integers(-8400, 8400, (256, 2)), rng.integers(TURN, size=(256, 1)), 1)
    frames = np.asarray(render(poses.astype(np.int32)))
    digest = hashlib.sha256(frames.tobytes()).hexdigest()[:16]
    assert (raycast.RENDERER_VERSION, digest) == ("1.0.0", "cbf6da8774d8c096")


# Geometry.


def marched(poses):
    """Depth, wall and position along the wall for each column, [n, 96], by marching along rays."""
    yaw = poses[:, 2] * 2 * np.pi / TURN
    forward = np.stack([np.cos(yaw), np.sin(yaw)], -1)[:, None]
    right = np.stack([np.sin(yaw), -np.cos(yaw)], -1)[:, None]
    rays = forward + (np.arange(96)[:, None] - 47.5) / 48 * right
    position = np.broadcast_to(poses[:, None, :2] / SCALE, rays.shape)
    depth = np.zeros(rays.shape[:-1])
    for stride in (8, 1, 1 / 8, 1 / 64):  # walk until the next step would be outside
        while True:
            ahead = position + (depth + stride)[..., None] * rays
            inside = np.max(ahead @ NORMALS.T, -1) < raycast.APOTHEM
            if not inside.any():
                break
            depth += stride * inside
    hit = position + depth[..., None] * rays
    wall = np.argmax(hit @ NORMALS.T, -1)
    rightwards = np.stack([np.sin(THETA), -np.cos(THETA)], -1)[wall]
    return depth, wall, (hit * rightwards).sum(-1)


def test_depths_and_walls_agree_with_marching():
    poses = random_poses(40, 744, seed=3)
    depth, wall, place = marched(poses)
    hit_wall, nearness, along = map(np.asarray, jax.jit(raycast._hits)(poses))
    np.testing.assert_allclose(raycast.NEAREST / nearness, depth, rtol=3e-4, atol=0.05)
    same = hit_wall == wall
    assert np.mean(same) > 0.995  # in a corner, either wall is right
    np.testing.assert_allclose(along[same] / 2**19, place[same], atol=0.2)
    assert len(np.unique(hit_wall)) == 16


def test_the_room_looks_the_same_after_a_turn_by_one_wall():
    poses = np.stack([pose(0, 0, yaw) for yaw in range(0, 4096, 97)])
    turned = poses + np.array([0, 0, 4096])
    hits, hits_turned = (jax.jit(raycast._hits)(jnp.asarray(p, jnp.int32)) for p in (poses, turned))
    np.testing.assert_array_equal((hits[0] + 1) % 16, hits_turned[0])
    np.testing.assert_array_equal(hits[1], hits_turned[1])
    np.testing.assert_array_equal(hits[2], hits_turned[2])


def test_quarter_turns_of_the_whole_room_change_nothing_but_the_landmarks():
    poses = random_poses(40, 744, seed=4)
    x, y, yaw = poses.T
    turned = np.stack([-y, x, (yaw + TURN // 4) % TURN], -1)
    hits, hits_turned = (jax.jit(raycast._hits)(p) for p in (poses, turned))
    np.testing.assert_array_equal((hits[0] + 4) % 16, hits_turned[0])
    np.testing.assert_array_equal(hits[1], hits_turned[1])
    np.testing.assert_array_equal(hits[2], hits_turned[2])


@pytest.mark.parametrize("distance", [200, 300, 500, 760, 1200])
def test_floor_and_sky_meet_the_wall_where_perspective_says(distance):
    """The horizon is between rows 35 and 36; the eye is 50 above the floor, 126 below the sky."""
    # Towards a plain wall, whose normal is at 22.5 degrees.
    x, y = (760 - distance) * NORMALS[1]
    middle = np.asarray(render(pose(round(x), round(y), 4096)))[:, 47].astype(int)
    sky = np.flatnonzero(near_colour(middle, raycast.SKY_COLOUR, 15))
    floor = np.flatnonzero(np.abs(middle - raycast.FLOOR_COLOUR).sum(-1) < 60)
    top, bottom = 36 - 48 * 126 / distance, 36 + 48 * 50 / distance
    assert list(sky) == list(range(len(sky))) and abs(len(sky) - top) < 1.01
    assert list(floor) == list(range(72 - len(floor), 72)) and abs(72 - len(floor) - bottom) < 1.01


@pytest.mark.parametrize(("i", "name"), enumerate(raycast.LANDMARKS))
def test_landmarks_hang_every_45_degrees(i, name):
    colour, _ = raycast.LANDMARKS[name]
    near = np.stack([pose(300 * np.cos(a), 300 * np.sin(a), 0) for a in THETA[::2]])
    near[:, 2] = np.arange(8) * EIGHTH
    seen = near_colour(render(near), raycast.hazed(np.array(colour), np.array(460.0)))
    amount = seen.sum((1, 2))
    assert amount[i] > 50 and amount.argmax() == i
    centre_of_mass = np.mean(np.nonzero(seen[i])[1])
    assert centre_of_mass == pytest.approx(47.5, abs=0.6)


def test_landmarks_differ_in_shape_as_well_as_in_colour():
    paper = np.array(raycast.PAPER_COLOUR)
    shapes = np.abs(raycast.canvases()[:, :, 3:-3].astype(int) - paper).sum(-1) > 60
    apart = np.mean(shapes[:, None] != shapes, (-2, -1))
    assert np.min(apart[~np.eye(8, dtype=bool)]) > 0.04
    colours = np.array([colour for colour, _ in raycast.LANDMARKS.values()])
    distance = np.abs(colours[:, None] - colours).sum(-1)
    assert np.min(distance[~np.eye(8, dtype=bool)]) > 100


def test_turning_left_moves_landmarks_right():
    colour, _ = raycast.LANDMARKS["circle"]
    turns = np.array([0, STEP_OF_TURNING, 2 * STEP_OF_TURNING])
    frames = render(np.stack([pose(0, 0, yaw) for yaw in turns]))
    columns = [
        np.mean(np.nonzero(seen)[1])
        for seen in near_colour(frames, raycast.hazed(np.array(colour), np.array(760.0)))
    ]
    expected = 47.5 + 48 * np.tan(turns * 2 * np.pi / TURN)
    np.testing.assert_allclose(columns, expected, atol=0.7)


def test_landmarks_stand_upright():
    """The triangle points up, and the arch is open below."""
    for i, open_below in ((1, True), (6, False)):
        colour = np.array(list(raycast.LANDMARKS.values())[i][0])
        x, y = 300 * NORMALS[2 * i]
        seen = near_colour(render(pose(x, y, i * EIGHTH)), raycast.hazed(colour, np.array(460.0)))
        widths = seen.sum(1)[seen.any(1)]
        assert (widths[0] < widths[-1]) == open_below


# The fast renderer against the oracle.


@functools.cache
def drawn_twice():
    poses = random_poses(48, 740, seed=5)
    reference = jax.jit(lambda p: jax.lax.map(raycast.render_reference, p, batch_size=8))
    return poses, np.asarray(render(poses)), np.asarray(reference(poses))


def test_fast_frames_are_those_of_the_oracle():
    _, fast, reference = drawn_twice()
    assert difference(fast, reference).mean() < 0.7
    assert difference(fast, reference).max() < 2.5
    # Only edges differ, by a fraction of a pixel.
    assert np.mean(np.abs(fast.astype(int) - reference).max(-1) > 32) < 0.015


def test_the_tolerance_is_less_than_what_a_turn_by_one_degree_changes():
    poses, _, reference = drawn_twice()
    turned = render(poses + np.array([0, 0, TURN // 360], np.int32))
    assert difference(turned, reference).mean() > 1.5


# An agent's actions are visible.


def changed_pixels(before, after):
    return np.mean(np.abs(np.asarray(before, int) - np.asarray(after)).max(-1) > 8, (-2, -1))


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_turn_shows(sign):
    poses = random_poses(300, 580, seed=6)
    turned = (poses + np.array([0, 0, sign * STEP_OF_TURNING])) % np.array([2**30, 2**30, TURN])
    turned[:, :2] = poses[:, :2]
    assert np.min(changed_pixels(render(poses), render(turned.astype(np.int32)))) > 0.01


def test_a_step_shows():
    poses = random_poses(300, 580, seed=7)
    yaw = poses[:, 2] * 2 * np.pi / TURN
    stepped = poses.copy()
    stepped[:, :2] += np.rint(20 * SCALE * np.stack([np.cos(yaw), np.sin(yaw)], -1)).astype(int)
    assert np.min(changed_pixels(render(poses), render(stepped))) > 0.01


# Landmarks tell where the agent is.


def test_the_nearest_known_frame_tells_the_pose():
    """Known poses are 30 units apart, in 16 directions each; the queries are in between."""
    axis, yaws = np.arange(-450, 451, 30), np.arange(16) * TURN // 16
    known = np.array(
        [pose(x, y, yaw) for x in axis for y in axis if np.hypot(x, y) <= 450 for yaw in yaws]
    )
    asked = random_poses(200, 430, seed=8)
    asked[:, 2] = np.random.default_rng(9).choice(yaws, 200)

    def features(poses):
        """Frames at half the resolution, float32 [n, features]."""
        frames = raycast.render(poses).astype(jnp.float32)
        return frames.reshape(-1, 36, 2, 48, 2, 3).mean((2, 4)).reshape(len(poses), -1)

    @jax.jit
    def nearest(asked, known):
        asked = features(asked)

        def distances(poses):
            known = features(poses)
            return (known**2).sum(-1) - 2 * asked @ known.T

        parts = known[: len(known) // 256 * 256].reshape(-1, 256, 3)
        return jax.lax.map(distances, parts).swapaxes(0, 1).reshape(len(asked), -1).argmin(1)

    found = known[nearest(asked, known)]
    error = np.linalg.norm((found - asked)[:, :2] / SCALE, axis=-1)
    assert np.mean((error < 30) & (found[:, 2] == asked[:, 2])) > 0.9
