"""Training against the length of the context, and against the size of the model.

The law is the count of FLOPs of ``presets.flops``.
"""

import time

import jax
import numpy as np

from ad_jax.distributed import sharding
from benchmarks import presets
from benchmarks.growth import fit

PRESET = "dark_room:quickstart"
TRANSITIONS = 8192  # of a batch, however long its windows are
CONTEXTS = (80, 320, 1280, 4096)
WINDOW = 80  # of attention
CHUNK = 80  # of queries
# Layers of a width E have 12 E² parameters each.
SHAPES = {1e5: (3, 52), 1e6: (4, 144), 1e7: (6, 372), 1e8: (10, 912)}
MODEL_TRANSITIONS = 2560


def run(
    rounds: int,
    contexts: tuple[int, ...] = CONTEXTS,
    parameters: tuple[float, ...] = (1e5, 1e6, 1e7),
    compiled: tuple[float, ...] = (1e8,),
) -> list[dict]:
    """Seconds and temporaries per transition; for the largest models only the compiler's counts."""
    return [*_by_context(rounds, contexts), *_by_model(rounds, parameters, compiled)]


def configured(transitions: int, context: int, **model):
    """The preset with other sizes; an even number of windows, which two devices can share."""
    config = presets.load(PRESET)
    config.train.accumulate = 1
    config.train.batch_size = max(2, 2 * round(transitions / context / 2))
    settings = {"context": context, "attention_chunk": min(context, CHUNK), **model}
    config.update_from_flattened_dict({f"model.{k}": v for k, v in settings.items()})
    return config


class Step:
    """The training step of a config, compiled for all devices.

    Attributes:
      needed: ``presets.flops``.
      counted: what the compiler counts: FLOPs and kB of temporaries of a transition, and MB of the
        state.
    """

    def __init__(self, config):
        model, init, update = presets.training(config)
        mesh = sharding.make_mesh()
        replicated, spread = sharding.replicated(mesh), sharding.batch_sharding(mesh)
        self._key = sharding.put(jax.random.key(0), replicated)
        self._init = jax.jit(init, out_shardings=replicated)
        shapes = presets.batch_shapes(config, model, spread)
        self._batch = lambda: sharding.put(
            {k: np.zeros(x.shape, x.dtype) for k, x in shapes.items()}, spread
        )
        step = jax.jit(sharding.on_mesh(mesh, update), donate_argnums=0, out_shardings=replicated)
        placed = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated)
        state = jax.tree.map(placed, jax.eval_shape(self._init, self._key))
        self.needed = presets.flops(config, state.params)
        self._program = step.lower(state, shapes, self._key).compile()
        self._transitions = config.train.batch_size * config.model.context
        of_one = self._transitions / mesh.size  # the compiler counts for one device
        self.counted = {
            "flops": self._program.cost_analysis()["flops"] / of_one,
            "temporaries": self._program.memory_analysis().temp_size_in_bytes / 1e3 / of_one,
            "state": sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) / 1e6,
        }

    def time(self) -> float:
        """Does a training step; returns its seconds per transition."""
        if not hasattr(self, "_state"):
            self._state, self._data = self._init(self._key), self._batch()
        began = time.perf_counter()
        self._state, _ = jax.block_until_ready(self._program(self._state, self._data, self._key))
        return (time.perf_counter() - began) / self._transitions


def _by_context(rounds: int, contexts: tuple[int, ...]) -> list[dict]:
    times, memory = [], []
    for window in (0, WINDOW):
        steps = [Step(configured(TRANSITIONS, c, attention_window=window)) for c in contexts]
        seconds = fit.in_turns([step.time for step in steps], rounds)
        of = f"attention over {window or 'all'} steps"
        times.append(fit.Line(
            "train, context", f"time of a transition, {of}", "µs", "steps of context", contexts,
            1e6 * seconds, [step.needed for step in steps], "its FLOPs",
        ))  # fmt: skip
        memory.append(fit.Line(
            "train, context", f"temporaries of a transition, {of}", "kB", "steps of context",
            contexts, [[step.counted["temporaries"] for step in steps]], [1] * len(contexts),
            "nothing: scores are not stored",
        ))  # fmt: skip
    return list(map(fit.row, times + memory))


def _by_model(rounds: int, measured: tuple[float, ...], compiled: tuple[float, ...]) -> list[dict]:
    def config_of(parameters: float):
        layers, width = SHAPES[parameters]
        shape = {"num_layers": layers, "width": width, "mlp_width": 4 * width}
        return configured(MODEL_TRANSITIONS, 80, **shape)

    both = (*measured, *compiled)
    steps = {n: Step(config_of(n)) for n in both}
    seconds = fit.in_turns([steps[n].time for n in measured], rounds)
    line = lambda *rest: fit.row(fit.Line("train, model", *rest))
    of = lambda name: [[steps[n].counted[name] for n in both]]
    return [
        line("time of a transition", "µs", "parameters", measured, 1e6 * seconds,
             [steps[n].needed for n in measured], "its FLOPs"),
        line("FLOPs of a transition, as compiled", "FLOP", "parameters", both, of("flops"),
             [steps[n].needed for n in both], "those of its matrix products"),
        line("state, as compiled", "MB", "parameters", both, of("state"), both,
             "parameters and two moments"),
    ]  # fmt: skip
