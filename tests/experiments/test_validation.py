"""Everything that is known to fail is refused before the first stage, in one line."""

import math
import re
from types import SimpleNamespace

import pytest

from ad_jax import build
from ad_jax.config import defaults
from ad_jax.distributed import sharding
from ad_jax.envs import registry
from ad_jax.errors import UserError
from experiments import validation
from experiments.configs import cart_pole
from experiments.validation import Range, range_of, validate

NUMBERS = {
    key: value for key, value in validation._leaves(defaults()) if type(value) in (int, float)
}


def refused(config, message):
    with pytest.raises(UserError, match=message) as caught:
        validate(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", NUMBERS)
def test_every_number_has_bounds(config, key):
    """NaN, infinities and what is out of bounds are refused, in every group and method."""
    validation.check_values(config)
    allowed = range_of(key, NUMBERS[key])
    whole = type(NUMBERS[key]) is int
    bad = [allowed.low - 1, 2**31] if whole else [math.nan, math.inf, -math.inf, allowed.low - 0.5]
    if allowed.low_open:
        bad.append(float(allowed.low))
    if allowed.high_open:
        bad.append(float(allowed.high))
    elif allowed.high < math.inf:
        bad.append(type(NUMBERS[key])(allowed.high + 1))
    for value in bad:
        config.update_from_flattened_dict({key: value})
        with pytest.raises(UserError, match=f"^{re.escape(f'{key}={value}: give {allowed}')}"):
            validation.check_values(config)


@pytest.mark.parametrize(
    "key, value",
    [
        ("model.dropout", 1.5),
        ("model.attention_dropout", -0.5),
        ("model.mask_probability", 1.5),
        ("train.label_smoothing", 2.0),
        ("evaluation.temperature", -1.0),
        ("source.ppo.clip", -1.0),
        ("rl2.clip", -1.0),
        ("rl2.num_trials", 0),
        ("optimizer.learning_rate", -0.1),
        ("optimizer.learning_rate", math.nan),
        ("source.dqn.batch_size", 0),
        ("source.a2c.learning_rate", 0.0),
        ("source.ppo.hidden", (32, 0)),
        ("collect.min_improved", 95.0),
        ("env.kwargs.max_steps_in_episode", 2**40),
    ],
)
@pytest.mark.parametrize("method", ["AD", "RL2"])
def test_numbers_that_were_accepted_in_silence(config, key, value, method):
    config.method = method
    config.update_from_flattened_dict({key: value})
    refused(config, f"^{re.escape(key)}=.*: give a ")


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("source.ppo.hidden", ("a", "b"), "give a tuple of int"),
        ("source.ppo.hidden", (1.5,), "give a tuple of int"),
        ("train.steps", None, "give a value"),
        ("model.dtype", None, "give a value"),
        ("source.ppo.hidden", None, "give a value"),
    ],
)
def test_values_of_another_type(config, key, value, message):
    config.update_from_flattened_dict({key: value})
    refused(config, f"^{re.escape(key)}=.*{message}")


def test_none_for_what_may_be_left_open(config):
    assert validation.IntegerOrNone().parse("None") is None
    assert validation.IntegerOrNone().parse("3") == 3
    config.tasks.num_train = config.collect.streams = config.train.keep_streams = None
    validate(config)


RL2 = {"method": "RL2", "rl2.num_trials": 16, "rl2.episodes": 2}
LATE = {
    "mode": ({"evaluation.mode": "slow"}, "evaluation.mode='slow': choose one of"),
    "group": ({"evaluation.tasks": "test"}, "evaluation.tasks='test': choose 'heldout' or"),
    "empty group": (
        {"evaluation.tasks": "validation", "tasks.num_validation": 0},
        "evaluation.tasks='validation', but tasks.num_validation is 0",
    ),
    "heads": ({"model.num_heads": 3}, "model.width=16 .*model.num_heads=3"),
    "warmup": ({"optimizer.warmup_steps": 40}, "optimizer.warmup_steps=40.* train.steps=40"),
    "optimizer": ({"optimizer.name": "sgd"}, "optimizer.name='sgd'"),
    "core": ({"model.core": "gru2"}, "model.core='gru2'"),
    "encoder": ({"model.image_encoder": "vit"}, "model.image_encoder='vit'"),
    "method": ({"method": "AC"}, "method='AC'"),
    "learned positions": ({"model.positions": "learned"}, "evaluation.mode='fast' goes past"),
    "prompt": ({"evaluation.prompt_episodes": 3}, "prompt_episodes=3 of 8 steps each do not fit"),
    "batch": ({"train.batch_size": 6}, "train.batch_size / train.accumulate=6 .* 4 devices"),
    "accumulate": ({"train.accumulate": 3}, "train.batch_size=16 .* train.accumulate=3"),
    "mesh": ({"mesh.data": 3}, "do not multiply to the 4 devices"),
    "sequence": ({"mesh.sequence": 4}, "model.num_heads=2 is not a multiple of mesh.sequence=4"),
    "steps": ({"mesh.sequence": 2, "model.context": 17}, "model.context=17 .* mesh.sequence=2"),
    "spread": ({"mesh.sequence": 2, "model.core": "lstm"}, "mesh.sequence=2: this core takes"),
    "fsdp": ({"mesh.fsdp": 4, "model.width": 18, "model.num_heads": 1}, "mesh.fsdp=4 .* divide"),
    "curve": ({"train.evaluate_every": 15}, "train.evaluate_every=15 .* train.log_every=10"),
    "tasks": (
        {"tasks.num_heldout": 9},
        "lower tasks.num_heldout, tasks.num_val",
    ),
    "arguments": ({"env.kwargs.size": 0}, "size"),
}
OF_SOURCES = {
    "source": ({"source.name": "sarsa"}, "source.name='sarsa'"),
    "groups": ({"source.name": "a2c", "source.a2c.num_groups": 5}, "source.a2c.num_groups=5"),
    "replay": ({"source.name": "dqn", "source.dqn.replay_steps": 5}, "source.dqn.replay_steps=5"),
    "bandit": ({"source.name": "ucb"}, "source.name"),
    "windows": ({"train.windows": "tape"}, "train.windows='tape'"),
    "kept": ({"train.keep_begin": 0.5, "train.keep_end": 0.5}, "train.keep_begin=0.5"),
    "chunks": ({"collect.updates_per_chunk": 7}, "collect.updates=40 is not a multiple"),
    "streams": ({"collect.streams": 9}, "collect.streams=9, but the source has 8"),
    "group of tasks": ({"collect.tasks": "all"}, "collect.tasks='all'"),
    "context": ({"model.context": 1000}, "model.context=1000 is longer than the histories"),
}


@pytest.mark.parametrize("name", LATE)
@pytest.mark.parametrize("method", [{}, RL2], ids=["AD", "RL2"])
def test_what_used_to_fail_late_for_every_method(config, name, method):
    changes, message = LATE[name]
    config.update_from_flattened_dict(method)
    if method and name in ("batch", "accumulate"):
        changes = {"rl2.num_trials": 6 if name == "batch" else 5, "rl2.num_minibatches": 2}
        message = "rl2.num_trials"
    if method and name == "warmup":
        changes, message = {"optimizer.warmup_steps": 480}, r"train.steps( \* 12)?=480"
    config.update_from_flattened_dict(changes)
    refused(config, message)


@pytest.mark.parametrize("name", OF_SOURCES)
def test_what_used_to_fail_late_of_histories(config, name):
    changes, message = OF_SOURCES[name]
    config.update_from_flattened_dict(changes)
    refused(config, message)
    config.update_from_flattened_dict(RL2)
    if name != "context":
        validate(config)  # which has no histories


@pytest.mark.parametrize("name", ["dropout", "attention_dropout", "mask_probability"])
def test_rl2_refuses_what_changes_its_policy(config, name):
    config.update_from_flattened_dict(RL2)
    validate(config)
    config.model[name] = 0.1
    refused(config, f"^model.{name}=0.1: RL2 learns from its own policy's actions")


def test_rl2_has_no_statistics_to_normalise_by(config):
    config.model.normalize = True
    validate(config)
    config.update_from_flattened_dict(RL2)
    refused(config, "^model.normalize needs the statistics of histories, but method='RL2' reads no")


def test_a_world_without_a_demonstrator():
    config = cart_pole.get_config("smoke")
    validate(config)
    config.evaluation.prompt_episodes = 1
    refused(config, "no demonstrator for CartPole")


def test_a_world_without_a_limit_of_steps(config):
    world = build.world(config)
    for params in (SimpleNamespace(), SimpleNamespace(max_steps_in_episode=[0, 8])):
        tasks = SimpleNamespace(params=lambda ids, params=params: params)
        with pytest.raises(UserError, match="have no step limit"):
            validation.episode_limit(world._replace(tasks=tasks))


def test_tasks_that_are_no_batch(config):
    world = build.world(config)
    one = SimpleNamespace(params=lambda ids: world.env.default_params)
    with pytest.raises(UserError, match="DarkRoom are not a batch"):
        validation.episode_limit(world._replace(tasks=one))


def test_too_large_a_model_is_refused(config, monkeypatch):
    monkeypatch.setattr(sharding, "_device_memory", lambda: 1000)
    refused(config, "the model and its optimizer need")


def test_whatever_a_world_raises_is_one_line(config, monkeypatch):
    class Broken:
        def __init__(self, **kwargs):
            raise ZeroDivisionError("no size\nat all")

    monkeypatch.setitem(registry.ENVIRONMENTS, "Broken", Broken)
    config.env.name, config.env.kwargs = "Broken", {}
    refused(config, "^env.name='Broken' can't be built from this config: no size$")


def test_a_range_reads_like_english():
    assert str(Range(1, 5)) == "a number from 1 to 5"
    assert str(Range(0, 1, high_open=True)) == "a number from 0 to 1, excluding 1"
    assert str(Range()) == "a finite number"
    assert str(Range(0)) == "a finite number, 0 or more"
    assert str(Range(0, low_open=True)) == "a finite number greater than 0"


def test_all_groups_of_the_defaults_are_checked():
    assert {"rl2", "source", "model", "optimizer", "train", "evaluation", "collect"} <= {
        key.split(".")[0] for key in NUMBERS
    }
    assert defaults().rl2.num_trials == NUMBERS["rl2.num_trials"]
