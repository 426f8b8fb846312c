"""Dark Room: 9×9, a hidden goal that pays on every step, 20 steps; 65 train and 16 held-out goals.

    python -m experiments.run --config=experiments/configs/dark_room.py:quickstart --workdir=DIR
"""

from experiments import build

PRESETS = {
    "smoke": {},
    "quickstart": {},
    "paper": {},
}


def get_config(preset: str = "quickstart"):
    """The config of a preset."""
    config = build.defaults()
    config.preset = preset
    config.env.name = "DarkRoom"
    config.source.num_streams = 32
    config.source.learning_rate = 1e-3
    config.collect.updates = 120
    config.collect.updates_per_chunk = 20
    config.model.num_layers = 3
    config.model.num_heads = 2
    config.model.mask_probability = 0.15
    config.optimizer.learning_rate = 3e-3
    config.train.keep_every = 5
    config.train.steps = 900
    return config
