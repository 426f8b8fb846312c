"""The record format of stored histories.

A record holds a fixed number of consecutive steps of one stream of one task, with the field names
of RLDS. Integers are packed: the components of an integer observation become one number (mixed
radix, the first component varies fastest). If that number would be too large, the components are
stored separately, in the smallest integer type that fits. Booleans and two-valued rewards become
bits.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from ad_jax.actions import Actions
from ad_jax.envs import spaces
from ad_jax.errors import UserError

VERSION = "1.5.0"  # of the format: a reader refuses a data set of another major version
FLAGS = ("is_first", "is_last", "is_terminal")
UNDECLARED = 255  # stands for a reward that ``reward_levels`` does not list
STEP_FIELDS = ("observation", "action", "reward", *FLAGS)


def messages(records: Sequence[bytes]) -> list[Any]:
    """What protobuf reads in the bytes of records, for ``Schema.parse``."""
    return [tf_example_pb2.Example.FromString(record).features.feature for record in records]


@dataclasses.dataclass(frozen=True)
class Schema:
    """How the steps of one environment are stored.

    Attributes:
      observation_shape: shape of an observation.
      observation_low: smallest value of each component (row-major), or None where observations
        are stored as they are.
      observation_sizes: number of values of each component, or None likewise.
      num_actions: number of values of an action or, if it is a vector, of the component with the
        most values.
      action_sizes: number of values of each action component, or None if an action is one number.
      reward_levels: the values a reward can take, or None for any float.
      record_steps: steps per record.
      raw_dtype: of observations that are stored as they are: float32, or uint8 for pictures.
    """

    observation_shape: tuple[int, ...]
    observation_low: tuple[int, ...] | None
    observation_sizes: tuple[int, ...] | None
    num_actions: int
    reward_levels: tuple[float, ...] | None
    record_steps: int
    raw_dtype: str = "float32"
    action_sizes: tuple[int, ...] | None = None

    @classmethod
    def of(cls, env: Any, record_steps: int) -> "Schema":
        """The schema of a gymnax environment.

        ``env.reward_levels``, if the environment has it, lists every reward that it can give.

        Raises:
          UserError: an action has more than 256 values.
        """
        space = env.observation_space(env.default_params)
        image = spaces.observation_dtype(space) == np.uint8
        sizes = None if image else spaces.component_sizes(space)
        actions = Actions.of(env)
        if (most := max(actions.sizes)) > 256:
            raise UserError(f"{env.name}: at most 256 actions can be stored, not {most}")
        levels = getattr(env, "reward_levels", None)
        return cls(
            observation_shape=tuple(space.shape),
            observation_low=None if sizes is None else tuple(spaces.lowest(space).tolist()),
            observation_sizes=None if sizes is None else tuple(sizes.tolist()),
            num_actions=most,
            reward_levels=None if levels is None else tuple(float(v) for v in levels),
            record_steps=record_steps,
            raw_dtype="uint8" if image else "float32",
            action_sizes=None if actions.scalar else actions.sizes,
        )

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Schema":
        """Inverse of ``dataclasses.asdict`` followed by JSON."""
        # Until version 1.1, record_steps was called block_steps.
        fields = {"record_steps" if k == "block_steps" else k: v for k, v in fields.items()}
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})

    @property
    def actions(self) -> Actions:
        """What an action is made of."""
        sizes = self.action_sizes
        return Actions.discrete(self.num_actions) if sizes is None else Actions(sizes)

    @property
    def observation_dtype(self) -> np.dtype:
        """The dtype of a stored observation."""
        if self.observation_sizes is None:
            return np.dtype(self.raw_dtype)
        sizes = self.observation_sizes
        return np.min_scalar_type((math.prod(sizes) if self._one_number else max(sizes)) - 1)

    @property
    def stored_observation_shape(self) -> tuple[int, ...]:
        """The shape of a stored observation: () if its components are packed into one number."""
        return () if self._one_number else self.observation_shape

    @property
    def _one_number(self) -> bool:
        return self.observation_sizes is not None and math.prod(self.observation_sizes) < 2**31

    @property
    def reward_dtype(self) -> np.dtype:
        """The dtype of a reward in memory: an index into ``reward_levels``, or the reward."""
        return np.dtype(np.float32 if self.reward_levels is None else np.uint8)

    @property
    def _reward_is_bit(self) -> bool:
        return self.reward_levels is not None and len(self.reward_levels) == 2

    def features(self) -> tfds.features.FeaturesDict:
        """The TFDS features of a record."""
        n, bits = self.record_steps, -(-self.record_steps // 8)

        def tensor(shape, dtype, doc):
            encoding = tfds.features.Encoding.BYTES
            return tfds.features.Tensor(shape=shape, dtype=dtype, doc=doc, encoding=encoding)

        def number(doc):
            return tfds.features.Tensor(shape=(1,), dtype=np.int32, doc=doc)

        reward = (
            tensor((bits,), np.uint8, "one bit per step: index into the schema's reward_levels")
            if self._reward_is_bit
            else tensor((n,), self.reward_dtype, "the reward, or its index into reward_levels")
        )
        return tfds.features.FeaturesDict(
            {
                "task": number("id of the task"),
                "stream": number("stream of the task"),
                "start": number("index of the record's first step in its stream"),
                "observation": tensor(
                    (n, *self.stored_observation_shape),
                    self.observation_dtype,
                    "before the action; integer components as one number, the first one fastest, "
                    "or each less its smallest value",
                ),
                "action": tensor((n, *self.actions.shape), np.uint8, "the action"),
                "reward": reward,
                **{flag: tensor((bits,), np.uint8, "one bit per step") for flag in FLAGS},
            }
        )

    def encode(self, history: Any) -> dict[str, Any]:
        """Packs a History, with numpy or inside jit; every field keeps its leading axes.

        Returns:
          A dict with STEP_FIELDS. Observation: integers as one packed number per step, or as
          components less their smallest values; other observations unchanged. Action: uint8.
          Reward: uint8, its index in ``reward_levels`` or UNDECLARED; float32 without levels.
          Flags: bool.
        """
        observation = history.observation
        if self.observation_sizes is not None:
            lead = observation.shape[: observation.ndim - len(self.observation_shape)]
            digits = observation.reshape(*lead, -1) - np.array(self.observation_low, np.int32)
            if self._one_number:
                observation = spaces.to_number(digits, self.observation_sizes)
            else:
                observation = digits.reshape(observation.shape)
            observation = observation.astype(self.observation_dtype)
        reward = history.reward
        if self.reward_levels is not None:
            levels = np.array(self.reward_levels, np.float32)
            level = reward[..., None] == levels
            reward = (level.argmax(-1) + UNDECLARED * ~level.any(-1)).astype(np.uint8)
        return {
            "observation": observation,
            "action": history.action.astype(np.uint8),
            "reward": reward,
            **{flag: getattr(history, flag) for flag in FLAGS},
        }

    def faults(self, history: Any) -> dict[str, Any]:
        """Finds steps that can't be stored as they are, inside jit.

        Args:
          history: a History with any leading axes.

        Returns:
          For each kind of fault, described in words, a bool array with the axes of ``reward``.
        """
        reward, observation = history.reward, history.observation
        found = {"rewards that are NaN or infinite": ~jnp.isfinite(reward)}
        if self.reward_levels is not None:
            level = reward[..., None] == np.array(self.reward_levels, np.float32)
            undeclared = ~level.any(-1) & jnp.isfinite(reward)
            found[f"rewards that are not in its reward_levels {self.reward_levels}"] = undeclared
        found["actions outside its action space"] = self.actions.outside(history.action)
        components = observation.reshape(*reward.shape, -1)
        if self.observation_sizes is not None:
            low = np.array(self.observation_low, np.int32)
            high = low + np.array(self.observation_sizes, np.int32) - 1
            outside = ((components < low) | (components > high)).any(-1)
            found["observations outside its observation space"] = outside
        elif self.raw_dtype == "float32":
            found["observations that are NaN or infinite"] = ~jnp.isfinite(components).all(-1)
        return found

    def decode_observation(self, stored: Any) -> Any:
        """Inverse of ``encode`` for observations, with numpy or inside jit: int32, or as stored."""
        if self.observation_sizes is None:
            return stored
        low = np.array(self.observation_low, np.int32)
        if not self._one_number:
            return stored.astype(np.int32) + low.reshape(self.observation_shape)
        digits = spaces.from_number(stored.astype(np.int32), self.observation_sizes)
        return (digits + low).reshape(*stored.shape, *self.observation_shape)

    def decode_reward(self, stored: Any) -> Any:
        """Inverse of ``encode`` for rewards, inside jit; float32."""
        if self.reward_levels is None:
            return stored
        return jnp.array(self.reward_levels, jnp.float32)[stored]

    def to_record(self, task: int, stream: int, start: int, block: dict[str, np.ndarray]) -> dict:
        """One example for TFDS from ``record_steps`` encoded steps of one stream.

        Raises:
          UserError: a value is invalid; see ``fault``.
        """
        if fault := self.fault(block):
            raise UserError(f"task {task} has {fault}: fix the environment")
        packed = [*FLAGS, "reward"] if self._reward_is_bit else list(FLAGS)
        return {
            "task": np.array([task], np.int32),
            "stream": np.array([stream], np.int32),
            "start": np.array([start], np.int32),
            **{k: np.packbits(v) if k in packed else v for k, v in block.items()},
        }

    def fault(self, fields: dict[str, np.ndarray]) -> str | None:
        """Describes invalid observations, actions or rewards, in words; None if all are valid."""
        for name in fields.keys() & {"observation", "reward"}:
            values = fields[name]
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                return f"a NaN or infinite {name}"
        if (largest := fields.get("action", np.zeros(0, int)).max(initial=0)) >= self.num_actions:
            return f"an action {largest}, but there are only {self.num_actions}"
        levels = self.reward_levels
        if levels is not None and fields.get("reward", np.zeros(0)).max(initial=0) >= len(levels):
            return f"a reward that is not in the environment's reward_levels {levels}"
        return None

    def from_record(self, record: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The encoded steps of one record, or of several [record, ...]; inverse of ``to_record``.

        The record may lack some of the fields.
        """
        block = {k: record[k] for k in STEP_FIELDS if k in record}
        unpack = lambda bits: np.unpackbits(bits, axis=-1, count=self.record_steps)
        for flag in block.keys() & FLAGS:
            block[flag] = unpack(block[flag]).astype(bool)
        if self._reward_is_bit and "reward" in block:
            block["reward"] = unpack(block["reward"])
        return block

    def parse(self, stored: Sequence[Any], names: Sequence[str]) -> dict[str, np.ndarray]:
        """Fields of some records, each [record, ...], from their ``messages``.

        The result is the same as that of TFDS, in a fraction of the time.

        Raises:
          KeyError: a record has no field of such a name.
        """
        features, fields = self._features, {}
        for name in names:
            dtype, shape = features[name].np_dtype, features[name].shape
            if name in STEP_FIELDS:
                joined = b"".join(record[name].bytes_list.value[0] for record in stored)
                values = np.frombuffer(joined, dtype)
            else:
                values = np.array([record[name].int64_list.value for record in stored], dtype)
            fields[name] = values.reshape(-1, *shape)
        return fields

    @functools.cached_property
    def _features(self) -> tfds.features.FeaturesDict:
        return self.features()
