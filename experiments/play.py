"""Shows a learner at work in a browser: choose a task, watch it explore, find and remember.

    python -m experiments.play --learner=dark_room

``--learner`` takes what ``ad_jax.load`` takes: the name of a learner that comes with the package, a
file or a workdir.
"""

import argparse
import base64
import collections
import functools
import importlib.util
import io
import secrets
import sys
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from ad_jax.errors import UserError
from ad_jax.evaluation import bounds
from ad_jax.learner import Learner, load, shipped
from ad_jax.paths import reason
from ad_jax.rollout import make_rollouts
from experiments.page import scenes
from experiments.page.html import html
from experiments.runtime import logs
from experiments.runtime.interruption import Interruption, end_well

_SESSIONS = 64  # pages that are open at once; the one used least recently is forgotten
_CHOICES = 200  # tasks to choose from


class Player:
    """A learner in its own environment, for pages that watch it.

    Each page has a session: the learner's context and the state of the environment. The states of
    the last steps are kept, since a page requests steps before it shows them, and may go back to
    change the task or the temperature.
    """

    def __init__(self, learner: Learner):
        self.learner = learner
        self.limit = int(learner.env.default_params.max_steps_in_episode)
        self.pictures = scenes.pictures(learner.env)
        self._sessions: collections.OrderedDict[str, collections.deque] = collections.OrderedDict()
        self._lock = threading.Lock()
        self._begin, self._advance = _compiled(learner)

    def begin(self, places: Any = None, task: Any = None) -> dict[str, Any]:
        """A new session, with an empty context.

        Args:
          places: the task as places, as ``scenes.task`` returns them.
          task: the id of the task, used if ``places`` is None.

        Raises:
          UserError: there is no such task.
        """
        env = self.learner.env
        if places is not None:
            params = scenes.params_of(env, places)
        elif task in self.tasks():
            batch = self.learner.tasks.params(np.array([task], np.int32))
            params = jax.tree.map(lambda x: x[0], batch)
        else:
            raise UserError(f"task={task!r} is not one of the tasks to choose from")
        with self._lock:
            state = self._begin(secrets.randbits(31), jax.tree.map(lambda x: x[None], params))
            session = secrets.token_hex(8)
            self._sessions[session] = collections.deque([(0, state)], maxlen=3 * self.limit + 1)
            while len(self._sessions) > _SESSIONS:
                self._sessions.popitem(last=False)
        return {"session": session, **self._task(params)}

    def steps(self, session: Any, temperature: Any) -> dict[str, Any]:
        """Takes as many steps as the longest episode has; returns lists of JSON values, by step.

        Raises:
          UserError: the session does not exist, or the temperature is not valid.
        """
        number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
        if not number or not 0 <= temperature <= 100:
            raise UserError(f"temperature={temperature!r}: give a number from 0 to 100")
        with self._lock:
            states = self._states(session)
            count, state = states[-1]
            made = []
            for i in range(self.limit):
                state, history = self._advance(state, jnp.float32(temperature))
                states.append((count + i + 1, state))
                made.append(history)
        history = jax.tree.map(lambda *x: np.concatenate(x, 2)[0, 0], *jax.device_get(made))
        found = {
            "observation": history.observation.tolist(),
            "action": history.action.tolist(),
            "reward": history.reward.tolist(),
            "last": history.is_last.astype(int).tolist(),
        }
        if self.pictures:
            found["frames"] = list(map(_png, self.pictures(history.observation)))
            if history.observation.ndim == 4:  # pictures themselves
                found["observation"] = [0] * self.limit
        return found

    def move(self, session: Any, places: Any, back: Any) -> dict[str, Any]:
        """Goes back to a step of a session, and changes the task there; the context is kept.

        Args:
          session: its id.
          places: the new task; None keeps the task.
          back: number of steps after which to change it; later steps are undone.

        Raises:
          UserError: the session or the task does not exist, or the step is no longer kept.
        """
        with self._lock:
            states = self._states(session)
            while states and states[-1][0] != back:
                states.pop()
            if not states:
                del self._sessions[session]
                raise UserError("that step is no longer known: start again")
            if not places:
                return {}
            params = scenes.params_of(self.learner.env, places)
            count, state = states.pop()
            env_params = jax.tree.map(lambda x: x[None, None], params)
            states.append((count, state.replace(env_params=env_params)))
        return self._task(params)

    def tasks(self) -> list[int]:
        """The ids of tasks to choose from: held-out ones."""
        return self.learner.tasks.heldout[:_CHOICES].tolist()

    def document(self, name: str) -> dict[str, Any]:
        """What page.html draws."""
        return {
            "live": True,
            "title": f"{name}: a learner at work",
            "world": scenes.world(self.learner.env),
            "choices": [(task, f"{task}, held out") for task in self.tasks()],
        }

    def _task(self, params: Any) -> dict[str, Any]:
        """The places of a task, with its optimal and its random return."""
        env, batch = self.learner.env, jax.tree.map(lambda x: x[None], params)
        optimum = bounds.optimal_returns(env, batch)
        return {
            "places": scenes.task(env, params),
            "best": None if optimum is None else float(optimum[0]),
            "random": float(bounds.random_returns(env, batch)[0]),
        }

    def _states(self, session: Any) -> collections.deque:
        if session not in self._sessions:
            raise UserError("the session of this page has expired: start again")
        self._sessions.move_to_end(session)
        return self._sessions[session]


def _compiled(learner: Learner) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """``begin(seed, env_params [1, ...])`` and ``advance(state, temperature)``, one step."""

    def rollouts(temperature: Any):
        agent = learner.make_agent(temperature=temperature)
        return make_rollouts(learner.env, lambda _: agent)

    @jax.jit
    def begin(seed, env_params):
        return rollouts(1.0)[0](jax.random.key(seed), jnp.zeros(1, jnp.int32), env_params, 1)

    @jax.jit
    def advance(state, temperature):
        return rollouts(temperature)[1](state, 1)

    return begin, advance


def _png(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(picture.squeeze()).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def make_app(player: Player, name: str) -> Any:
    """The page and what it asks for, as a Flask application."""
    import flask

    app = flask.Flask(__name__, static_folder=None)
    page = functools.cache(lambda: html(player.document(name)))
    app.get("/")(lambda: page())

    def answer(method: Callable[..., dict[str, Any]], *names: str):
        given = flask.request.get_json(silent=True)
        given = given if isinstance(given, dict) else {}
        try:
            return method(**{name: given.get(name) for name in names})
        except UserError as error:
            return {"error": str(error)}, 400

    app.post("/begin", endpoint="begin")(lambda: answer(player.begin, "places", "task"))
    app.post("/steps", endpoint="steps")(lambda: answer(player.steps, "session", "temperature"))
    app.post("/move", endpoint="move")(lambda: answer(player.move, "session", "places", "back"))
    return app


def serve(app: Any, host: str, port: int) -> Any:
    """A server of the page; ``run`` runs it.

    Raises:
      UserError: it can't listen there.
    """
    import waitress

    try:
        return waitress.create_server(app, host=host, port=port)
    except (OSError, ValueError, OverflowError) as error:
        address = f"--host={host} --port={port}"
        raise UserError(f"{address} can't be used ({reason(error)}): choose others") from error


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.play")
    parser.add_argument("--learner", default="dark_room", help=f"{', '.join(shipped())}, or a path")
    parser.add_argument("--step", type=int, help="checkpoint of a workdir; by default the last")
    parser.add_argument("--seed", type=int, help="training seed of a workdir; by default the first")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines connect")
    parser.add_argument("--port", type=int, default=8000, help="0 picks a free one")
    options = parser.parse_args(arguments)
    logs.set_level(None)
    if missing := [name for name in ("flask", "waitress") if not importlib.util.find_spec(name)]:
        names = " and ".join(missing)
        raise UserError(f"the page needs {names}: pip install '.[play]' in the clone")
    learner = load(options.learner, step=options.step, seed=options.seed)
    app = make_app(Player(learner), options.learner)
    server = serve(app, options.host, options.port)
    print(f"http://{options.host}:{server.effective_port}  (Ctrl-C stops it)", flush=True)
    server.run()


def entry_point() -> None:
    """Runs ``main``."""
    end_well(lambda: main(sys.argv[1:]), Interruption())


if __name__ == "__main__":
    entry_point()
