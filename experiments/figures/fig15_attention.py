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
    """The model of figure 4."""
    return {"AD": presets.ad("dark_room", preset)}


def panels(results: Mapping[str, Results]) -> list[dict[str, Any]]:
    """One for each layer: weights averaged over heads, of the first steps on a held-out task."""
    found = results["AD"]
    config = found.config
    world = build.world(config)
    model = build.model(config, world.env)
    mesh = sharding.make_mesh(**config.mesh)
    (params, *_), _ = evaluate.trained(config, found.checkpoints[0], model, mesh)
    params = sharding.fetch(params)  # from here on, each process is on its own
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

    seen = inputs(params)
    _, kept = model.apply(params, **seen, mutable="intermediates")
    starts = np.flatnonzero(np.asarray(seen["is_first"][0]))
    episode = np.searchsorted(starts, np.arange(steps), side="right")
    earlier = episode[:, None] > episode  # keys of episodes before the query's
    made = []
    for layer in range(config.model.num_layers):
        (q_and_k,) = kept["intermediates"][f"blocks_{layer}"]["queries_keys"]
        weights = np.asarray(attention_weights(*q_and_k)[0].mean(0))
        made.append({
            "kind": "map", "title": f"layer {layer + 1}", "xlabel": "step of the context looked at",
            "ylabel": "step of the context", "weights": rounded(weights), "starts": starts.tolist(),
            "earlier_episodes": float((weights * earlier)[episode == episode[-1]].sum(-1).mean()),
        })  # fmt: skip
    return made


def reaches_back(found: Panels) -> bool:
    """In the last episode, some layer gives a quarter of its attention to earlier ones."""
    return max(p["earlier_episodes"] for p in found) > 0.25


FIGURE = Figure(
    title="Attention over the episodes of a context, mean over heads (lines: episodes)",
    runs=runs,
    panels=panels,
    claims={
        "attention reaches back over several episodes: a quarter of a layer's or more": reaches_back
    },
)
