import dataclasses

import pytest

from ad_jax import build
from ad_jax.config import defaults
from ad_jax.errors import UserError
from experiments.configs import (
    adversarial_bandit,
    cart_pole,
    dark_key_to_door,
    dark_room,
    dark_room_hard,
    watermaze,
)

CONFIGS = [adversarial_bandit, cart_pole, dark_room, dark_room_hard, dark_key_to_door, watermaze]
CASES = [(module, preset) for module in CONFIGS for preset in module.PRESETS]


@pytest.mark.parametrize("module, preset", CASES, ids=lambda x: getattr(x, "__name__", x))
def test_every_preset_describes_something_that_can_be_built(module, preset):
    config = module.get_config(preset)
    world = build.world(config)
    source = build.source(config, world.env)
    build.model(config, world.env)
    assert config.preset == preset
    assert config.optimizer.warmup_steps < config.train.steps
    assert config.collect.updates % config.collect.updates_per_chunk == 0
    kept = config.collect.updates * source.steps_per_update // config.train.keep_every
    trial = config.evaluation.episodes == 1
    assert kept >= (1 if trial or preset == "smoke" else 2) * config.model.context
    assert len(world.heldout) == config.tasks.num_heldout


@pytest.mark.parametrize("module", CONFIGS, ids=lambda m: m.__name__)
def test_the_docstring_gives_the_command(module):
    assert (
        "python -m experiments.run --config=" + module.__name__.replace(".", "/") in module.__doc__
    )
    with pytest.raises(UserError, match="no preset 'big'"):
        module.get_config("big")


def test_paper_presets_have_the_numbers_of_the_paper():
    """Tables 2 and 3 of the paper."""
    want = {
        dark_room: (0.5, 0.3, 0.0),
        dark_room_hard: (0.0, 0.5, 0.2),
        dark_key_to_door: (0.5, 0.3, 0.0),
    }
    for module, (attention_dropout, mask, smoothing) in want.items():
        config = module.get_config("paper")
        model = config.model
        assert (model.attention_dropout, model.mask_probability) == (attention_dropout, mask)
        assert config.train.label_smoothing == smoothing
        assert (model.width, model.num_layers, model.num_heads, model.mlp_width) == (64, 4, 4, 2048)
        assert (model.norm, model.positions, model.dropout) == ("post", "learned", 0.1)
        optimizer = config.optimizer
        assert (optimizer.b1, optimizer.b2, optimizer.max_grad_norm) == (0.9, 0.99, 1.0)
        assert (optimizer.initial_learning_rate, optimizer.learning_rate) == (2e-6, 3e-4)
        source = config.source.a2c
        assert config.source.name == "a2c" and source.hidden == (128, 128, 128)
        assert (source.discount, source.gae_lambda, source.entropy_cost) == (0.99, 0.95, 0.01)
        assert (source.learning_rate, source.adam_eps) == (1e-4, 1e-6)
        assert config.train.batch_size == 128 and config.source.a2c.num_streams == 100


def test_overrides_are_locked_against_typos_and_wrong_types():
    config = dark_room.get_config("smoke")
    config.lock()
    with pytest.raises(AttributeError):
        config.train.stepz = 3
    with pytest.raises(TypeError):
        config.train.steps = "many"
    fields = {f.name for f in dataclasses.fields(build.OptimizerConfig)}
    assert set(defaults().optimizer) == fields


def test_the_arguments_of_an_environment_can_be_overridden():
    config = dark_room.get_config("quickstart")
    config.lock()
    assert config.env.kwargs.to_dict() == {"size": 9, "max_steps_in_episode": 20, "start": "centre"}
    config.env.kwargs.size = 5
    assert build.world(config).env.size == 5
    assert watermaze.get_config("paper").env.kwargs.goal_mode == "once"
    assert watermaze.get_config("cpu").env.kwargs.goal_mode == "terminate_next"
    assert dark_room.get_config("smoke").env.kwargs.size == 3
