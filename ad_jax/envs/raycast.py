"""Pictures of the Watermaze room (paper, section 4) from any pose, drawn in plain jnp.

The room is a regular 16-gon. A landmark hangs on every second wall: eight panels, each with its
own shape and colour. Units are those of the original level; a *pose* is int32 [3]: x and y in
1/16 units, and the yaw in 1/65536 turns, counterclockwise from the x axis.

A vertical line of the image shows one wall at one depth. With rays that are not normalised, 1/depth
is the largest of (n·ray) / (apothem - n·position) over the 16 walls with outward normals n, so no
ray marching is needed. What the line shows depends only on that depth and on the position along the
wall. ``render`` computes both exactly, and looks up the whole antialiased line of pixels in an
atlas of all possible lines. ``render_reference`` shares only the description of the scene, and
computes every pixel separately.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

# The version of the pixels, stored with every data set. It must change whenever any frame does.
RENDERER_VERSION = "1.0.0"

FRAME_SHAPE = (72, 96, 3)
ROWS, COLUMNS, _ = FRAME_SHAPE
FOCAL = COLUMNS // 2  # pixels; a horizontal field of view of 90 degrees

POSITION_SCALE = 16  # steps of a pose per unit
TURN = 65536  # steps of a pose per turn

# The room, in units. The depth of a wall is at most the distance between two corners.
NUM_WALLS = 16
APOTHEM = 760
FLOOR, EYE, SKY = 16, 66, 192
PANEL_TOP = 174
TEXEL = 3  # width and height of a texel of a landmark
NEAREST, FARTHEST = 6, 1536  # bounds of the depth, for a player kept 15 units from the walls

# A canvas is a landmark of 58 × 52 texels with 3 texels of wall on its left and right.
CANVAS_HEIGHT, CANVAS_WIDTH, MARGIN = 52, 64, 3
_TEXEL_EDGES = PANEL_TOP - TEXEL * np.arange(CANVAS_HEIGHT + 1)

WALL_COLOUR = (62, 92, 190)
FLOOR_COLOUR = (176, 168, 142)
SKY_COLOUR = (178, 216, 250)
PAPER_COLOUR = (240, 238, 228)
HAZE_COLOUR = (150, 178, 215)
HAZE_AT_FARTHEST = 0.35  # how much of a colour the haze takes at the largest depth

# Each landmark as its colour and a test of points (a, b): b goes up, and is ±1 at the panel's edge.
LANDMARKS = {
    "circle": ((205, 30, 40), lambda a, b: a**2 + b**2 < 0.42),
    "triangle": ((245, 215, 0), lambda a, b: (b > -0.7) & (b < 0.8 - 1.8 * abs(a))),
    "square": ((30, 140, 50), lambda a, b: np.maximum(abs(a), abs(b)) < 0.66),
    "diamond": ((200, 30, 170), lambda a, b: abs(a) + abs(b) < 0.88),
    "clover": (
        (0, 165, 165),
        lambda a, b: (
            (abs(a) + abs(b) < 0.46)
            | (np.minimum((abs(a) - 0.46) ** 2 + b**2, a**2 + (abs(b) - 0.46) ** 2) < 0.1)
        ),
    ),
    "hexagon": (
        (240, 115, 10),
        lambda a, b: np.maximum(abs(b), abs(a) * 0.866 + abs(b) * 0.5) < 0.74,
    ),
    "arch": (
        (110, 60, 20),
        lambda a, b: (
            (b > -0.75)
            & (np.hypot(a, np.maximum(b, 0)) < 0.75)
            & (np.hypot(a, np.maximum(b, 0)) > 0.36)
        ),
    ),
    "cross": (
        (25, 25, 30),
        lambda a, b: (np.minimum(abs(a), abs(b)) < 0.24) & (np.maximum(abs(a), abs(b)) < 0.78),
    ),
}


@functools.cache
def canvases() -> np.ndarray:
    """The landmarks as they hang on the walls, uint8 [8, 52, 64, 3]; row 0 is the top."""
    fine = 8  # points per texel along each axis
    half = CANVAS_HEIGHT / 2
    points = lambda texels: (np.arange(texels * fine) + 0.5) / fine / half - texels / 2 / half
    a, b = points(CANVAS_WIDTH), -points(CANVAS_HEIGHT)[:, None]
    pictures = []
    for colour, inside in LANDMARKS.values():
        covered = np.broadcast_to(inside(a, b), (len(b), len(a))).astype(np.int64)
        covered = covered.reshape(CANVAS_HEIGHT, fine, CANVAS_WIDTH, fine).sum((1, 3))[..., None]
        mixed = covered * np.array(colour) + (fine**2 - covered) * np.array(PAPER_COLOUR)
        picture = _rounded_quotient(mixed, fine**2)
        picture[:, :MARGIN] = picture[:, -MARGIN:] = WALL_COLOUR
        pictures.append(picture)
    return np.stack(pictures).astype(np.uint8)


def render(pose: jax.Array) -> jax.Array:
    """Draws what is seen from a pose.

    All arithmetic is in integers, in floats that hold integers exactly, or in single correctly
    rounded operations; no rounded product enters a sum. So no compiler can change a pixel by fusing
    operations, and devices that round divisions correctly agree bit for bit.

    Args:
      pose: int32 [..., 3], at least 15 units from the walls (1/16 of a unit less is fine).

    Returns:
      Frames, uint8 [..., 72, 96, 3].
    """
    lines, base, shift = _atlas()
    index = _line_index(pose, jnp.asarray(base), jnp.asarray(shift))
    # Copy whole lines, then transpose while a pixel is still one word: XLA is very slow at
    # transposing bytes. The barriers keep it from gathering pixel by pixel, here and in the code
    # that uses the result.
    words = jax.lax.optimization_barrier(jnp.asarray(lines)[index])
    pixels = jax.lax.bitcast_convert_type(jnp.swapaxes(words, -1, -2), jnp.uint8)
    return jax.lax.optimization_barrier(pixels[..., :3])


# --- Where a vertical line of the image meets the walls. ----------------------------------------

# Cosines are in units of 2**-15. With 96 times a ray, n·ray stays below 2**24: exact in float32.
_ONE = 2**15
_COSINE = np.rint(np.cos(np.arange(TURN) * (2 * np.pi / TURN)) * _ONE).astype(np.int32)
_WALL_ANGLES = np.arange(NUM_WALLS, dtype=np.int32) * (TURN // NUM_WALLS)


def _trigonometry(angle: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(cosine, sine) of angles in 1/65536 turns, in units of 2**-15."""
    cosine = jnp.asarray(_COSINE)
    return cosine[angle & (TURN - 1)], cosine[(angle - TURN // 4) & (TURN - 1)]


def _hits(pose: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where each vertical line of the image meets the room.

    Returns:
      wall: int32 [..., 96], which of the 16.
      nearness: float32 [..., 96], 6 / depth.
      along: int32 [..., 96], to the right of the wall's middle, in units of 2**-19.
    """
    x, y, yaw = pose[..., :1], pose[..., 1:2], pose[..., 2:]
    normal_x, normal_y = _COSINE[_WALL_ANGLES], _COSINE[_WALL_ANGLES - TURN // 4]
    away = APOTHEM * POSITION_SCALE * _ONE - (x * normal_x + y * normal_y)
    cosine, sine = _trigonometry(_WALL_ANGLES - yaw)
    # Without this barrier the loop over the columns would look them up again and again.
    per_away, cosine, sine = jax.lax.optimization_barrier(
        (1 / away.astype(jnp.float32), cosine.astype(jnp.float32), sine.astype(jnp.float32))
    )
    sideways = np.arange(1 - COLUMNS, COLUMNS, 2).astype(np.float32)  # of 96 times the ray

    wall = jnp.zeros((*pose.shape[:-1], COLUMNS), jnp.int32)
    nearness = jnp.full(wall.shape, -jnp.inf)
    for i in range(NUM_WALLS):
        towards = COLUMNS * cosine[..., i : i + 1] - sideways * sine[..., i : i + 1]
        candidate = towards * per_away[..., i : i + 1]
        closer = candidate > nearness
        wall, nearness = jnp.where(closer, i, wall), jnp.where(closer, candidate, nearness)

    pick = lambda table: jnp.take_along_axis(table, wall, -1)
    start = (x * normal_y - y * normal_x).astype(jnp.float32)
    rightwards = COLUMNS * pick(sine) + sideways * pick(cosine)
    along = pick(start) + rightwards / nearness
    return wall, nearness, along.astype(jnp.int32)


# --- All vertical lines there are. --------------------------------------------------------------

# Depths are binned by the leading bits of the float32 nearness: 32 bins per octave. For each
# octave, from far to near: how many bins share a line; how many half texels of a canvas lie between
# two lines (spacing); and how many are averaged into one line (width). Far away, a pixel is wider
# than a texel. Very near, where neither floor nor sky is visible, errors in the depth show least.
_BITS = 5
_OCTAVES = (
    # shared, spacing, width
    (2, 8, 16),  # depth 768 to 1536
    (1, 4, 8),
    (1, 2, 4),
    (1, 2, 2),  # 96 to 192
    (2, 2, 2),
    (4, 2, 2),
    (4, 2, 2),
    (4, 2, 2),  # 6 to 12
)
_NUM_BINS = len(_OCTAVES) << _BITS


def _bin_of(nearness: jax.Array) -> jax.Array:
    """Bins of depths, int32; the farthest is 0."""
    bits = jax.lax.bitcast_convert_type(nearness, jnp.int32) >> (23 - _BITS)
    first = np.float32(NEAREST / FARTHEST).view(np.int32) >> (23 - _BITS)
    return jnp.clip(bits - first, 0, _NUM_BINS - 1)


def _line_index(pose: jax.Array, base: jax.Array, shift: jax.Array) -> jax.Array:
    """Which line of the atlas each vertical line of the image is, int32 [..., 96]."""
    wall, nearness, along = _hits(pose)
    depth_bin = _bin_of(nearness)
    unit = POSITION_SCALE * _ONE
    texel = jax.lax.div(along + CANVAS_WIDTH // 2 * TEXEL * unit, jnp.int32(TEXEL * unit))
    panel, shift = wall >> 1, shift[depth_bin]
    on_canvas = (wall % 2 == 0) & (abs(along) < CANVAS_WIDTH // 2 * TEXEL * unit)
    line = 1 + (((panel * CANVAS_WIDTH) + texel) >> shift)
    return base[depth_bin] + jnp.where(on_canvas, line, 0)


@functools.cache
def _atlas() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws every vertical line.

    Returns:
      lines: uint32 [lines, 72], pixels as red + green * 2**8 + blue * 2**16.
      base: int32 [bins], the line of a plain wall at this depth. The lines across the eight
        canvases follow it.
      shift: int32 [bins], log2 of the texels between two lines.
    """
    # Weights and colours are whole numbers, whose sums are exact in any order: every machine
    # draws the same atlas.
    lines, base, shifts, count = [], [], [], 0
    across = {octave[1:]: _across(*octave[1:]) for octave in _OCTAVES}
    for octave, (shared, spacing, width) in enumerate(_OCTAVES):
        canvas = across[spacing, width]
        for group in range((1 << _BITS) // shared):
            middle = (group + 0.5) * shared / (1 << _BITS)
            depth = FARTHEST / (2**octave * (1 + middle))
            block = _lines_at(depth, canvas)
            base += [count] * shared
            shifts += [spacing.bit_length() - 2] * shared
            lines.append(block)
            count += len(block)
    words = np.concatenate(lines).astype(np.uint32) @ np.array([1, 2**8, 2**16], np.uint32)
    return words, np.array(base, np.int32), np.array(shifts, np.int32)


def _across(spacing: int, width: int) -> np.ndarray:
    """Canvases averaged over ``width`` half texels, every ``spacing``; int64, 16 times the colour.

    Returns:
      [1 + 8 * canvas width * 2 / spacing, 52, 3]; the first is plain wall.
    """
    halves = np.repeat(canvases().astype(np.int64), 2, axis=2)
    around = (width - spacing) // 2
    halves = np.pad(halves, ((0, 0), (0, 0), (around, around), (0, 0)), mode="edge")
    sums = np.lib.stride_tricks.sliding_window_view(halves, width, axis=2)[:, :, ::spacing].sum(-1)
    lines = sums.transpose(0, 2, 1, 3).reshape(-1, CANVAS_HEIGHT, 3) * (16 // width)
    plain = np.broadcast_to(16 * np.array(WALL_COLOUR), (1, CANVAS_HEIGHT, 3))
    return np.concatenate([plain, lines])


def _lines_at(depth: float, canvas: np.ndarray) -> np.ndarray:
    """Antialiased lines of a wall at one depth, uint8 [lines, 72, 3]."""
    scale = 2**12  # of the shares of a row, and of the haze
    rises = np.arange(ROWS // 2, -ROWS // 2 - 1, -1) / FOCAL  # of the edges between rows
    height = (EYE + rises * depth)[:, None]
    edges = np.array([SKY, *_TEXEL_EDGES, FLOOR])
    above = np.clip((height[:-1] - edges) / (height[:-1] - height[1:]), 0, 1)
    above = np.rint(above * scale).astype(np.int64)
    sky, shares, floor = above[:, 0], np.diff(above), scale - above[:, -1]

    # Products of whole numbers with sums below 2**53: exact as floats, which are much faster.
    texels = np.tensordot(canvas.astype(float), shares[:, 1:-1].astype(float), (1, 1))
    texels = texels.transpose(0, 2, 1).astype(np.int64)
    wall = texels + np.outer(shares[:, 0] + shares[:, -1], 16 * np.array(WALL_COLOUR))
    haze = int(np.rint(HAZE_AT_FARTHEST * depth / FARTHEST * scale))
    wall = wall * (scale - haze) + np.outer(16 * shares.sum(-1) * haze, HAZE_COLOUR)
    ground = np.rint(floor_colour((rises[:-1] + rises[1:]) / 2)).astype(np.int64)
    rest = sky[:, None] * np.array(SKY_COLOUR) + floor[:, None] * ground
    return _rounded_quotient(wall + 16 * scale * rest, 16 * scale**2).astype(np.uint8)


def _rounded_quotient(amount: np.ndarray, by: int) -> np.ndarray:
    return (2 * amount + by) // (2 * by)


def hazed(colour, depth):
    """A colour at a depth: the haze grows with the distance. Numpy or jnp, float [..., 3]."""
    return (
        colour + (np.array(HAZE_COLOUR) - colour) * (HAZE_AT_FARTHEST / FARTHEST * depth)[..., None]
    )


def floor_colour(rise):
    """Colour of the floor along rays that rise by so much per unit of depth, float [..., 3]."""
    depth = (FLOOR - EYE) / np.minimum(rise, (FLOOR - EYE) / FARTHEST)
    return hazed(np.array(FLOOR_COLOUR), depth)


# --- The oracle. --------------------------------------------------------------------------------


def render_reference(pose: jax.Array, samples: int = 4) -> jax.Array:
    """Draws the same scene point by point, in floats: slow, and easy to check.

    Args:
      pose: int32 [..., 3].
      samples: a pixel is the mean of ``samples`` × ``samples`` points; with 1 it is not
        antialiased.

    Returns:
      Frames, uint8 [..., 72, 96, 3].
    """
    position, yaw = pose[..., :2] / POSITION_SCALE, pose[..., 2] * (2 * np.pi / TURN)
    forward = jnp.stack([jnp.cos(yaw), jnp.sin(yaw)], -1)
    right = jnp.stack([jnp.sin(yaw), -jnp.cos(yaw)], -1)
    points = lambda n: (np.arange(n * samples) + 0.5) / samples - n / 2
    sideways, rise = points(COLUMNS) / FOCAL, -points(ROWS)[:, None] / FOCAL

    theta = np.arange(NUM_WALLS) * (2 * np.pi / NUM_WALLS)
    normals = np.stack([np.cos(theta), np.sin(theta)], -1)
    rays = forward[..., None, :] + sideways[:, None] * right[..., None, :]  # [..., 96, 2]
    # Not as a matrix product, which some devices round to fewer bits.
    away = APOTHEM - (position[..., None, :] * normals).sum(-1)
    towards = (rays[..., None, :] * normals).sum(-1)
    depths = jnp.where(towards > 0, away[..., None, :] / towards, jnp.inf)
    wall, depth = depths.argmin(-1), depths.min(-1)
    hit = position[..., None, :] + depth[..., None] * rays
    tangents = np.stack([np.sin(theta), -np.cos(theta)], -1)
    along = (hit * jnp.asarray(tangents)[wall]).sum(-1)

    wall, depth, along = (x[..., None, :] for x in (wall, depth, along))  # [..., rows, columns]
    height = EYE + rise * depth
    row = jnp.floor((PANEL_TOP - height) / TEXEL).astype(jnp.int32)
    column = jnp.floor(along / TEXEL + CANVAS_WIDTH / 2).astype(jnp.int32)
    on_canvas = (wall % 2 == 0) & (row >= 0) & (row < CANVAS_HEIGHT)
    on_canvas &= (column >= 0) & (column < CANVAS_WIDTH)
    texel = jnp.asarray(canvases(), jnp.float32)[wall // 2, row, column]
    colour = jnp.where(on_canvas[..., None], texel, np.array(WALL_COLOUR, np.float32))
    colour = hazed(colour, jnp.broadcast_to(depth, height.shape))
    colour = jnp.where((height < FLOOR)[..., None], floor_colour(rise), colour)
    colour = jnp.where((height > SKY)[..., None], np.array(SKY_COLOUR, np.float32), colour)
    shape = (*pose.shape[:-1], ROWS, samples, COLUMNS, samples, 3)
    return jnp.rint(colour.reshape(shape).mean((-4, -2))).astype(jnp.uint8)
