"""What the page draws of each kind of environment, as JSON values."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ad_jax.actions import Actions
from ad_jax.envs import raycast, spaces, watermaze
from ad_jax.envs.adversarial_bandit import AdversarialBandit
from ad_jax.envs.grid_world import MOVES, GridWorld
from ad_jax.errors import UserError


class Scene(NamedTuple):
    """How tasks of an environment are shown and chosen.

    Attributes:
      kind: the name of its drawing code in page.html.
      facts: ``facts(env)``, the values that this code needs.
      places: ``places(env)``, the fields of EnvParams that define a task; the page shows them and
        sends them back.
      check: ``check(env, field, value)`` raises a UserError if a field can't have this value.
    """

    kind: str
    facts: Callable[[Any], dict[str, Any]]
    places: Callable[[Any], tuple[str, ...]]
    check: Callable[[Any, str, np.ndarray], None]


def _grid_facts(env: GridWorld) -> dict[str, Any]:
    return {"size": env.size, "moves": MOVES.tolist()}


def _places_of_grid(env: GridWorld) -> tuple[str, ...]:
    fields = vars(env.default_params)
    return tuple(name for name, value in fields.items() if np.shape(value) == (2,))


def _check_cell(env: GridWorld, name: str, cell: np.ndarray) -> None:
    whole = cell.dtype.kind in "iu" and cell.shape == (2,)
    if not whole or not ((cell >= 0) & (cell < env.size)).all():
        raise UserError(
            f"{name} is {cell.tolist()}: give a cell (x, y) with numbers from 0 to {env.size - 1}"
        )


def _check_arms(env: AdversarialBandit, name: str, values: np.ndarray) -> None:
    numbers = values.dtype.kind in "biuf" and values.shape == (env.num_arms,)
    if not numbers or not ((values >= 0) & (values <= 1)).all():
        raise UserError(f"{name}: give {env.num_arms} numbers from 0 to 1, one for each arm")


def _check_platform(env: Any, name: str, place: np.ndarray) -> None:
    numbers = place.dtype.kind in "iuf" and place.shape == (2,)
    if not numbers or not (place**2).sum() <= watermaze.DISC_RADIUS**2:
        raise UserError(
            f"{name} is {place.tolist()}: give (x, y) within {watermaze.DISC_RADIUS:.0f} of the "
            "centre"
        )


def _maze_facts(env: Any) -> dict[str, Any]:
    del env
    return {
        "apothem": raycast.APOTHEM,
        "walls": raycast.NUM_WALLS,
        "landmarks": [colour for colour, _ in raycast.LANDMARKS.values()],
        "platform_radius": watermaze.PLATFORM_RADIUS,
        "disc_radius": watermaze.DISC_RADIUS,
        "scale": raycast.POSITION_SCALE,
        "turn": raycast.TURN,
    }


SCENES: dict[type, Scene] = {
    GridWorld: Scene("grid", _grid_facts, _places_of_grid, _check_cell),
    AdversarialBandit: Scene(
        "bandit", lambda env: {"arms": env.num_arms}, lambda _: ("probability",), _check_arms
    ),
    watermaze.Watermaze: Scene("maze", _maze_facts, lambda _: ("platform",), _check_platform),
}
PLAIN = Scene("plain", lambda _: {}, lambda _: (), lambda *_: None)


def scene(env: Any) -> Scene:
    """The scene of an environment; one that shows observations as bars if it has none."""
    return next((made for kind, made in SCENES.items() if isinstance(env, kind)), PLAIN)


def world(env: Any) -> dict[str, Any]:
    """What the page needs to know of an environment."""
    drawn = scene(env)
    return {
        "name": env.name,
        "kind": drawn.kind,
        "actions": max(Actions.of(env).sizes),
        "limit": int(env.default_params.max_steps_in_episode),
        "places": drawn.places(env),
        **drawn.facts(env),
    }


def task(env: Any, params: Any) -> dict[str, Any]:
    """The places of one task, from its EnvParams."""
    return {name: np.asarray(getattr(params, name)).tolist() for name in scene(env).places(env)}


def params_of(env: Any, places: Any) -> Any:
    """EnvParams from the places of a task; inverse of ``task``.

    Raises:
      UserError: they are not those of a task.
    """
    drawn = scene(env)
    names = drawn.places(env)
    if not isinstance(places, dict) or set(places) != set(names):
        raise UserError(f"a task of {env.name} has the places {list(names)}")
    params = env.default_params
    for name, value in places.items():
        try:
            given = np.asarray(value)
        except ValueError as error:
            raise UserError(f"{name} is not an array: {error}") from error
        drawn.check(env, name, given)
        params = params.replace(**{name: jnp.asarray(given, getattr(params, name).dtype)})
    return params


def pictures(env: Any) -> Callable[[Any], np.ndarray] | None:
    """A function from observations to their images, uint8; None if the environment has none."""
    if render := getattr(env, "render_observation", None):
        draw = jax.jit(render)
        return lambda observation: np.asarray(draw(observation))
    if spaces.kind(env.observation_space(env.default_params)) == "image":
        return np.asarray
    return None
