"""The scale of the observations and rewards that a source sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces

from ad_jax.envs.dark_room import DarkRoom
from ad_jax.sources import scaling
from ad_jax.sources.a2c import A2CConfig, a2c
from ad_jax.sources.actors import make_actors
from ad_jax.sources.ppo import PPOConfig, ppo


@struct.dataclass
class GaugeState:
    side: jax.Array
    time: jax.Array


class Gauge(environment.Environment):
    """Shows one of two numbers near a million; an action that does not match it costs 1000."""

    def reset_env(self, key, params):
        side = jax.random.bernoulli(key).astype(jnp.int32)
        return jnp.stack([1e6 + 10.0 * side, 3.0]), GaugeState(side, jnp.int32(0))

    def step_env(self, key, state, action, params):
        reward = jnp.where(action == state.side, 0.0, -1000.0)
        observation, shown = self.reset_env(key, params)
        return observation, shown.replace(time=state.time + 1), reward, jnp.bool(False), {}

    def is_terminated(self, state, params):
        return jnp.bool(False)

    num_actions = 2
    name = "gauge"

    @property
    def default_params(self):
        return environment.EnvParams(max_steps_in_episode=5)

    def action_space(self, params=None):
        return spaces.Discrete(2)

    def observation_space(self, params=None):
        return spaces.Box(-jnp.inf, jnp.inf, (2,), jnp.float32)


def test_moments_are_those_of_all_values():
    rng = np.random.default_rng(0)
    values = rng.normal(1e4, 3.0, (6, 50, 2)).astype(np.float32)
    scale = scaling.unknown((2,), streams=50)
    rewards, lasts = np.float32(rng.normal(size=(6, 50))), rng.random((6, 50)) < 0.3
    for i in (0, 3):
        part = slice(i, i + 3)
        scale = scaling.measured(scale, values[part], rewards[part], lasts[part], 0.5)
    np.testing.assert_allclose(scale.seen.mean, values.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(scaling.deviation(scale.seen), values.std((0, 1)), rtol=1e-2)

    running, returns = np.zeros(50), []
    for reward, last in zip(rewards, lasts, strict=True):
        running = 0.5 * running + reward
        returns.append(running)
        running = np.where(last, 0, running)
    np.testing.assert_allclose(scaling.deviation(scale.returns), np.std(returns), rtol=1e-4)
    np.testing.assert_allclose(scale.running, running, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [0.1, 0.3, 1.0, -1000.0])
def test_what_never_changes_is_not_divided_by_nothing(value):
    scale = scaling.unknown((1,), streams=2)
    assert scaling.deviation(scale.seen) == 1
    for steps in (3, 20):
        same = jnp.full((steps, 2), value)
        last = jnp.ones(same.shape, bool)  # of episodes of one step
        scale = scaling.measured(scale, same[..., None], same, last, 0.9)
    assert scaling.deviation(scale.seen) == 1 and scaling.deviation(scale.returns) == 1
    np.testing.assert_allclose(scaling.standardised(scale.seen, value), 0, atol=1e-3)


def late_returns(source):
    """The mean reward of the last of 60 updates, and its observations."""
    env = Gauge()
    state = source.init(jax.random.key(0), env.default_params)
    _, history = jax.jit(lambda s: jax.lax.scan(lambda s, _: source.step(s), s, length=60))(state)
    last = jax.tree.map(lambda x: x[-1], history)
    return float(last.reward.mean()), last.observation


@pytest.mark.parametrize("make, config", [(ppo, PPOConfig), (a2c, A2CConfig)])
def test_numbers_far_from_1_are_learnt_when_they_are_scaled(make, config):
    """And the history holds the environment's own numbers."""
    scaled, observation = late_returns(make(Gauge(), config(normalize=True)))
    raw, _ = late_returns(make(Gauge(), config()))
    assert raw < -300 and scaled > -100
    assert float(observation[..., 0].min()) == 1e6


def test_a_room_is_shown_as_it_is_and_its_rewards_are_scaled():
    room = DarkRoom(size=3, max_steps_in_episode=10)
    params = jax.tree.map(lambda x: x[0], room.tasks().params(np.arange(1)))
    actors = make_actors(room, 4, privileged=False, scaled_by=0.9)
    actions = jax.random.randint(jax.random.key(0), (50, 4), 0, 5)
    state, made = actors.rollout(
        actors.reset(jax.random.key(1), params), jax.random.key(2),
        lambda seen, action: (action, ()), actions,
    )  # fmt: skip
    np.testing.assert_array_equal(made.seen, made.history.observation)
    deviation = scaling.deviation(state.scale.returns)
    assert made.history.reward.max() == 1 and abs(deviation - 1) > 0.01
    np.testing.assert_allclose(made.reward, made.history.reward / deviation, rtol=1e-6)
