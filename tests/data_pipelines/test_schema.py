"""What is packed is unpacked unchanged, and takes little space."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from ad_jax.actions import Actions
from ad_jax.envs.dark_room import DarkRoom, DarkRoomHard
from ad_jax.errors import UserError
from ad_jax.interfaces import History
from data_pipelines.schema import FLAGS, STEP_FIELDS, VERSION, Schema, messages


class Outside:
    """The parts of an environment that a schema reads."""

    name = "Outside"
    default_params = None
    num_actions = 3

    def __init__(self, space, reward_levels=None, action_space=None):
        self._space = space
        self._action_space = action_space or spaces.Discrete(3)
        if reward_levels is not None:
            self.reward_levels = reward_levels

    def observation_space(self, params):
        return self._space

    def action_space(self, params):
        return self._action_space


def history(env, shape, seed=0):
    """A random History with leading axes ``shape``, all within the environment's spaces."""
    rng = np.random.default_rng(seed)
    space = env.observation_space(env.default_params)
    if isinstance(space, spaces.Discrete):
        observation = rng.integers(space.n, size=shape).astype(np.int32)
    elif np.issubdtype(space.dtype, np.integer):
        low, high = (np.broadcast_to(bound, space.shape) for bound in (space.low, space.high))
        observation = rng.integers(low, high + 1, size=(*shape, *space.shape)).astype(np.int32)
    else:
        observation = rng.normal(size=(*shape, *space.shape)).astype(np.float32)
    levels = getattr(env, "reward_levels", None)
    reward = rng.normal(size=shape) if levels is None else rng.choice(np.float32(levels), shape)
    is_first, is_last, is_terminal = rng.integers(2, size=(3, *shape)).astype(bool)
    return History(
        observation=observation,
        action=rng.integers(env.num_actions, size=shape).astype(np.int32),
        reward=reward.astype(np.float32),
        is_first=is_first,
        is_last=is_last,
        is_terminal=is_terminal,
    )


ENVIRONMENTS = {
    "grid": DarkRoom(),
    "wide grid": DarkRoomHard(),  # 289 cells: more than a byte
    "low bounds": Outside(spaces.Box(np.array([-5, 100]), np.array([4, 103]), (2,), jnp.int32)),
    "matrix": Outside(spaces.Box(-1, 2, (2, 3), jnp.int32), reward_levels=(-1.0, 0.0, 0.1)),
    "discrete": Outside(spaces.Discrete(7), reward_levels=(-1.0, 1.0)),
    "floats": Outside(spaces.Box(-1.0, 1.0, (3,), jnp.float32)),
    "image": Outside(spaces.Box(0.0, 1.0, (2, 2, 3), jnp.float32), reward_levels=(0.0, 0.5, 2.0)),
    "one level": Outside(spaces.Discrete(2), reward_levels=(3.0,)),
}
all_environments = pytest.mark.parametrize("name", ENVIRONMENTS)


def as_lists(decoded):
    return {k: (str(np.asarray(v).dtype), np.asarray(v).tolist()) for k, v in decoded.items()}


@all_environments
def test_encode_and_decode(name):
    env = ENVIRONMENTS[name]
    schema = Schema.of(env, record_steps=13)
    original = history(env, (2, 3, 13))
    encoded = schema.encode(original)
    assert set(encoded) == set(STEP_FIELDS)
    assert all(np.shape(v)[:3] == (2, 3, 13) for v in encoded.values())
    decoded = {
        **encoded,
        "observation": schema.decode_observation(encoded["observation"]),
        "reward": schema.decode_reward(encoded["reward"]),
        "action": encoded["action"].astype(np.int32),
    }
    assert as_lists(decoded) == as_lists(original)


@all_environments
def test_encode_inside_jit_equals_numpy(name):
    """Dtypes too: what is written does not depend on where it was encoded."""
    env = ENVIRONMENTS[name]
    schema = Schema.of(env, record_steps=13)
    original = history(env, (4, 13))
    encoded = schema.encode(original)
    assert as_lists(jax.jit(schema.encode)(original)) == as_lists(encoded)
    observation, reward = encoded["observation"], encoded["reward"]
    np.testing.assert_array_equal(
        jax.jit(schema.decode_observation)(observation), original.observation
    )
    np.testing.assert_array_equal(jax.jit(schema.decode_reward)(reward), original.reward)


def test_the_first_component_counts_fastest():
    """The order is part of the format: x + 9 y in a 9×9 room."""
    schema = Schema.of(DarkRoom(), record_steps=2)
    steps = history(DarkRoom(), (2,)).replace(observation=np.array([[3, 0], [1, 2]], np.int32))
    stored = schema.encode(steps)["observation"]
    assert stored.tolist() == [3, 1 + 9 * 2]
    assert stored.dtype == np.uint8


@pytest.mark.parametrize(
    ("high", "dtype"), [(15, np.uint8), (16, np.uint16), (255, np.uint16), (256, np.uint32)]
)
def test_observations_take_the_smallest_type(high, dtype):
    """The largest value must still fit: 16 · 16 observations are 256 numbers, 17 · 17 are more."""
    env = Outside(spaces.Box(0, high, (2,), jnp.int32))
    schema = Schema.of(env, record_steps=1)
    assert schema.observation_dtype == dtype
    corner = history(env, (1,)).replace(observation=np.array([[high, high]], np.int32))
    stored = schema.encode(corner)["observation"]
    assert schema.decode_observation(stored).tolist() == [[high, high]]


@all_environments
@pytest.mark.parametrize("record_steps", [13, 16, 1])
def test_a_record_holds_a_block(name, record_steps):
    env = ENVIRONMENTS[name]
    schema = Schema.of(env, record_steps=record_steps)
    block = {k: np.asarray(v) for k, v in schema.encode(history(env, (record_steps,))).items()}
    record = schema.to_record(task=70000, stream=3, start=10**6, block=block)
    features = schema.features()
    stored = features.deserialize_example_np(features.serialize_example(record))
    assert [stored[k].tolist() for k in ("task", "stream", "start")] == [[70000], [3], [10**6]]
    assert as_lists(schema.from_record(stored)) == as_lists(block)
    parsed = schema.parse(messages([features.serialize_example(record)] * 2), list(record))
    for field, value in stored.items():  # what TFDS makes of it
        assert parsed[field].dtype == value.dtype
        np.testing.assert_array_equal(parsed[field], [value, value])
    for both in zip(*schema.from_record(parsed).values(), strict=True):
        assert as_lists(dict(zip(schema.from_record(parsed), both, strict=True))) == as_lists(block)


@all_environments
def test_a_schema_survives_json(name):
    schema = Schema.of(ENVIRONMENTS[name], record_steps=40)
    again = Schema.from_json(json.loads(json.dumps(dataclasses.asdict(schema))))
    assert again == schema
    assert hash(again) == hash(schema)  # tuples, not lists


def test_a_schema_is_read_off_the_environment():
    assert Schema.of(DarkRoom(), record_steps=400) == Schema(
        observation_shape=(2,),
        observation_low=(0, 0),
        observation_sizes=(9, 9),
        num_actions=5,
        reward_levels=(0.0, 1.0),
        record_steps=400,
    )
    schema = Schema.of(ENVIRONMENTS["low bounds"], record_steps=1)
    assert schema.observation_low == (-5, 100) and schema.observation_sizes == (10, 4)
    assert schema.reward_levels is None
    floats = Schema.of(ENVIRONMENTS["image"], record_steps=1)
    assert floats.observation_shape == (2, 2, 3) and floats.observation_sizes is None


def test_bounds_of_bytes_do_not_overflow():
    """255 - 0 + 1 does not fit into a byte."""
    low, high = np.zeros(2, np.uint8), np.full(2, 255, np.uint8)
    schema = Schema.of(Outside(spaces.Box(low, high, (2,), jnp.uint8)), record_steps=1)
    assert schema.observation_sizes == (256, 256)


def test_dark_room_takes_three_bytes_a_step():
    schema = Schema.of(DarkRoom(), record_steps=400)
    block = {k: np.asarray(v) for k, v in schema.encode(history(DarkRoom(), (400,))).items()}
    record = schema.to_record(task=1, stream=2, start=0, block=block)
    assert sum(record[k].nbytes for k in STEP_FIELDS) / 400 <= 3
    # These bytes are what is stored: serialising adds only names.
    assert len(schema.features().serialize_example(record)) < 3 * 400 + 200


def test_floats_are_no_actions():
    """They must be discretised first; see ``envs.binned``."""
    env = Outside(spaces.Discrete(2), action_space=spaces.Box(-1.0, 1.0, (1,), jnp.float32))
    with pytest.raises(UserError, match=r"Outside has actions of space Box: give Discrete"):
        Schema.of(env, record_steps=1)


def test_actions_of_several_components_are_stored_as_they_are():
    env = Outside(spaces.Discrete(2), action_space=spaces.Box(0, 6, (3,), jnp.int32))
    schema = Schema.from_json(json.loads(json.dumps(dataclasses.asdict(Schema.of(env, 8)))))
    assert schema.actions == Actions((7, 7, 7)) and schema.num_actions == 7
    action = np.random.default_rng(0).integers(0, 7, (2, 8, 3)).astype(np.int32)
    zeros = np.zeros((2, 8), np.int32)
    flags = {flag: zeros.astype(bool) for flag in FLAGS}
    history = History(observation=zeros, action=action, reward=zeros.astype(np.float32), **flags)
    assert not any(found.any() for found in schema.faults(history).values())
    block = {k: v[1] for k, v in schema.encode(history).items()}
    assert schema.features()["action"].shape == (8, 3)
    np.testing.assert_array_equal(block["action"], action[1])
    action[0, 3, 1] = 7
    (wrong,) = [k for k, found in schema.faults(history).items() if found.any()]
    assert wrong == "actions outside its action space"


def test_the_version_has_a_major_part():
    """Readers compare it."""
    assert [part.isdigit() for part in VERSION.split(".")] == [True] * 3


@pytest.mark.parametrize("levels", [(0.0, 1.0), (0.0, 0.5, 1.0)])
def test_an_undeclared_reward_never_becomes_a_record(levels):
    """Two levels are stored as bits, where it would silently become one of them."""
    env = Outside(spaces.Discrete(5), reward_levels=levels)
    schema, steps = Schema.of(env, 8), history(env, (8,))
    block = schema.encode(dataclasses.replace(steps, reward=np.full(8, 0.25, np.float32)))
    with pytest.raises(UserError, match=r"task 3 .*reward_levels"):
        schema.to_record(3, 0, 0, block)


def test_floats_that_are_not_finite_never_become_a_record():
    env = Outside(spaces.Box(-1.0, 1.0, (2,), jnp.float32))
    schema, steps = Schema.of(env, 8), history(env, (8,))
    for name in ("reward", "observation"):
        broken = np.where(np.arange(getattr(steps, name).size) == 3, np.inf, 0).astype(np.float32)
        broken = broken.reshape(getattr(steps, name).shape)
        block = schema.encode(dataclasses.replace(steps, **{name: broken}))
        with pytest.raises(UserError, match=f"task 3 .*infinite {name}"):
            schema.to_record(3, 0, 0, block)


def test_faults_are_found_step_by_step():
    """Without this check, 5, 6 and 7 of a Discrete(5) would be read back as 0, 1 and 2."""
    env = Outside(spaces.Discrete(5), reward_levels=(0.0, 1.0))
    steps = dataclasses.replace(
        history(env, (4,)), observation=np.array([5, 4, -1, 0], np.int32),
        reward=np.array([0, 1, np.nan, 0.5], np.float32),
    )  # fmt: skip
    found = [np.asarray(v).tolist() for v in Schema.of(env, 4).faults(steps).values()]
    none = False
    assert found == [
        [none, none, True, none], [none, none, none, True], [none, none, none, none],
        [True, none, True, none],
    ]  # fmt: skip


def test_a_schema_of_version_1_1_opens():
    """Its provenance called the steps of a record ``block_steps``."""
    fields = json.loads(json.dumps(dataclasses.asdict(Schema.of(DarkRoom(), record_steps=400))))
    fields["block_steps"] = fields.pop("record_steps")
    assert Schema.from_json(fields) == Schema.of(DarkRoom(), record_steps=400)
