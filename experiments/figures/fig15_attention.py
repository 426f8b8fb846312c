"""Figure 15: where the model looks in its context while it learns."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ad_jax import build
from ad_jax.distributed import sharding
from ad_jax.evaluation.agents import model_agent
from ad_jax.models.attention import attention_weights
from ad_jax.rollout import make_rollouts, recording
from experiments.figures import presets
from experiments.figures.figure import Figure, Panels
from experiments.figures.panels import rounded
from experiments.figures.runs import Results
from experiments.stages import evaluate


def runs(preset: str):
    """AD in Dark Room, as in figures 4 and 5."""
    return {"AD": presets.ad("dark_room", preset)}


def panels(results: Mapping[str, Results]) -> list[dict[str, Any]]:
    """One for each layer: weights averaged over heads, of the first steps on a held-out task.

    The weights are those of the first training seed; the share of earlier episodes is given for
    every seed.
    """
    found = results["AD"]
    config = found.config
    world = build.world(config)
    model = build.model(config, world.env)
    mesh = sharding.make_mesh(**config.mesh)
    # Fetched to the host: from here on, processes do not communicate.
    of_seeds = [
        sharding.fetch(params)
        for folder in found.checkpoints
        for params in evaluate.trained(config, folder, model, mesh)[0]
    ]
    steps = config.model.context - config.model.context % found.episode_steps

    task = world.heldout[len(world.heldout) // 2 :][:1]
    env_params = world.tasks.params(task)

    @jax.jit
    def inputs(params):
        agent = recording(model_agent(model, params))
        init, advance = make_rollouts(world.env, lambda _: agent)
        state = init(build.key(config, "report"), jnp.asarray(task), env_params, 1)
        _, _, seen = advance(state, steps)
        return jax.tree.map(lambda x: x[:, 0], seen)

    def attended(params) -> tuple[np.ndarray, np.ndarray]:
        """(weights [layer, query, key], the first steps of the episodes)."""
        seen = inputs(params)
        _, kept = model.apply(params, **seen, mutable="intermediates")
        layers = [kept["intermediates"][f"blocks_{i}"] for i in range(config.model.num_layers)]
        weights = [attention_weights(*layer["queries_keys"][0])[0].mean(0) for layer in layers]
        return np.asarray(weights), np.flatnonzero(np.asarray(seen["is_first"][0]))

    def to_earlier(weights: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The share of the last episode's attention that goes to earlier ones, [layer]."""
        episode = np.searchsorted(starts, np.arange(steps), side="right")
        earlier = episode[:, None] > episode  # keys of episodes before the query's
        return (weights * earlier)[:, episode == episode[-1]].sum(-1).mean(-1)

    found_of = [attended(params) for params in of_seeds]
    back = np.array([to_earlier(*of_seed) for of_seed in found_of])
    weights, starts = found_of[0]
    made = []
    for layer in range(config.model.num_layers):
        made.append({
            "kind": "map", "title": f"layer {layer + 1}", "xlabel": "step of the context looked at",
            "ylabel": "step of the context", "weights": rounded(weights[layer]),
            "starts": starts.tolist(), "earlier_episodes": rounded(back[:, layer]),
        })  # fmt: skip
    return made


def reaches_back(found: Panels) -> np.ndarray:
    """In the last episode, some layer gives a quarter of its attention to earlier ones."""
    return np.max([p["earlier_episodes"] for p in found], axis=0) - 0.25


FIGURE = Figure(
    title="Attention over the episodes of a context, averaged over heads "
    "(lines: starts of episodes)",
    runs=runs,
    panels=panels,
    claims={
        "attention reaches back over several episodes: in some layer, a quarter of it or more goes "
        "to earlier ones": reaches_back
    },
)
