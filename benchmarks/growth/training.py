"""Training against the length of the context, and against the size of the model.

The count of FLOPs is that of ``benchmarks.utilisation``: six for each parameter of a dense layer
and transition, twelve for each layer, unit of width and transition that a query sees.
"""

import time

import jax
import numpy as np

from benchmarks import presets
from benchmarks.growth import fit

PRESET = "dark_room:quickstart"
TRANSITIONS = 8192  # of a batch, however long its windows are
CONTEXTS = (80, 160, 320, 640, 1280, 2560, 4096)
WINDOW = 80  # of attention
# Layers of a width E have 12 E² parameters each.
SHAPES = {1e5: (3, 52), 1e6: (4, 144), 1e7: (6, 372), 1e8: (10, 912)}
MODEL_TRANSITIONS = 2560


def run(
    rounds: int,
    contexts: tuple[int, ...] = CONTEXTS,
    parameters: tuple[float, ...] = (1e5, 1e6, 1e7),
    compiled: tuple[float, ...] = (1e8,),
) -> list[dict]:
    """Seconds and temporaries of a transition; of the largest models what the compiler counts."""
    return [*_by_context(rounds, contexts), *_by_model(rounds, parameters, compiled)]


def configured(transitions: int, context: int, **model):
    """The preset with other sizes; an even number of windows, which two devices can share."""
    config = presets.load(PRESET)
    config.train.accumulate = 1
    config.train.batch_size = max(2, 2 * round(transitions / context / 2))
    # A longer chunk for a longer context, so that the program has as many parts.
    settings = {"context": context, "attention_chunk": max(40, context // 8), **model}
    config.update_from_flattened_dict({f"model.{k}": v for k, v in settings.items()})
    return config


def flops(config) -> float:
    """Of a transition: of the matrix products that the function needs."""
    m = config.model
    seen = np.minimum(np.arange(m.context) + 1, m.attention_window or m.context).mean()
    dense = m.num_layers * (4 * m.width**2 + 2 * m.width * m.mlp_width)
    return float(6 * dense + 12 * m.num_layers * m.width * seen)


def _by_context(rounds: int, contexts: tuple[int, ...]) -> list[dict]:
    lines = []
    for window in (0, WINDOW):
        configs = [configured(TRANSITIONS, c, attention_window=window) for c in contexts]
        seconds = fit.in_turns([_timed(config) for config in configs], rounds)
        memory = [_compiled(config)["temporaries"] for config in configs]
        what = f"attention over {window or 'all'} steps"
        lines += [
            fit.Line(
                "train, context", f"time of a transition, {what}", "µs", "steps of context",
                contexts, 1e6 * seconds, [flops(config) for config in configs], "its FLOPs",
            ),
            fit.Line(
                "train, context", f"temporaries of a transition, {what}", "kB", "steps of context",
                contexts, [memory], [1] * len(contexts), "none: scores are not stored",
            ),
        ]  # fmt: skip
    return [fit.row(line) for line in lines]


def _by_model(rounds: int, measured: tuple[float, ...], compiled: tuple[float, ...]) -> list[dict]:
    def config_of(parameters: float):
        layers, width = SHAPES[parameters]
        shape = {"num_layers": layers, "width": width, "mlp_width": 4 * width}
        return configured(MODEL_TRANSITIONS, 80, **shape)

    both = (*measured, *compiled)
    configs = {n: config_of(n) for n in both}
    seconds = fit.in_turns([_timed(configs[n]) for n in measured], rounds)
    counted = [_compiled(configs[n]) for n in both]
    line = lambda what, unit, sizes, values, law, text: fit.row(
        fit.Line("train, model", what, unit, "parameters", sizes, values, law, text)
    )
    needed = {n: flops(configs[n]) for n in both}
    of = lambda name: [[each[name] for each in counted]]
    return [
        line("time of a transition", "µs", measured, 1e6 * seconds,
             [needed[n] for n in measured], "its FLOPs"),
        line("FLOPs of a transition, as compiled", "FLOP", both, of("flops"),
             list(needed.values()), "those of its matrix products"),
        line("state: parameters and moments, as compiled", "MB", both, of("state"), both,
             "parameters"),
    ]  # fmt: skip


def _timed(config):
    """A function that makes one step, and returns the seconds of a transition."""
    model, init, update = presets.training(config)
    batch = {k: np.zeros(x.shape, x.dtype) for k, x in presets.batch_shapes(config, model).items()}
    step = presets.repeated(init, update, batch)
    transitions = config.train.batch_size * config.model.context

    def work() -> float:
        began = time.perf_counter()
        jax.block_until_ready(step())
        return (time.perf_counter() - began) / transitions

    return work


def _compiled(config) -> dict[str, float]:
    """What the compiler counts of a step on one device: of a transition, but for the state."""
    model, init, update = presets.training(config)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(init, key)
    step = jax.jit(update, donate_argnums=0)
    program = step.lower(state, presets.batch_shapes(config, model), key).compile()
    transitions = config.train.batch_size * config.model.context
    memory = program.memory_analysis()
    return {
        "flops": program.cost_analysis()["flops"] / transitions,
        "temporaries": memory.temp_size_in_bytes / 1e3 / transitions,
        "state": sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) / 1e6,
    }
