"""The checker finds each mistake that a user's own environment may have; ours have none."""

import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from ad_jax.envs import registry
from ad_jax.envs.checker import check_env
from ad_jax.envs.tasks import TaskDistribution
from ad_jax.errors import UserError
from examples.corridor import Corridor, EnvParams, EnvState


@pytest.mark.parametrize("name", registry.ENVIRONMENTS)
def test_ours_are_without_fault(name):
    env, tasks = registry.make(name)
    check_env(env, tasks)


def test_the_example_is_without_fault():
    check_env(Corridor())


class Five(Corridor):
    def step(self, key, state, action, params=None):
        return super().step(key, state, action, params)[:5]


class SixInside(Corridor):
    def step_env(self, *args):
        cell, state, reward, terminated, info = super().step_env(*args)
        return cell, state, reward, terminated, jnp.bool(False), info


class OrderOfGymnasium(Corridor):
    def step_env(self, *args):
        cell, _, reward, terminated, info = super().step_env(*args)
        return cell, reward, terminated, jnp.bool(False), info


class OneTooSmall(Corridor):
    def observation_space(self, params=None):
        return spaces.Discrete(8)


class Wide(Corridor):
    def observe(self, key, state, action, params):
        return state.cell

    def reset_env(self, key, params):
        cell, state = super().reset_env(key, params)
        return jnp.stack([cell, cell]), state


class Floats(Corridor):
    def reset_env(self, key, params):
        cell, state = super().reset_env(key, params)
        return cell.astype(jnp.float32), state

    def step_env(self, *args):
        cell, *rest = super().step_env(*args)
        return cell.astype(jnp.float32), *rest


class OtherState(Corridor):
    def step(self, key, state, action, params=None):
        observation, state, *rest = super().step(key, state, action, params)
        return observation, state.replace(time=state.time.astype(jnp.float32)), *rest


class Rewards(Corridor):
    value = 1.0

    def step_env(self, *args):
        cell, state, reward, *rest = super().step_env(*args)
        return cell, state, jnp.where(state.time > 3, self.value, 0.0) + 0 * reward, *rest


class NaN(Rewards):
    value = float("nan")


class Undeclared(Rewards):
    value = 0.5


class Endless(Corridor):
    def step_env(self, *args):
        cell, state, *rest = super().step_env(*args)
        return cell, state.replace(time=jnp.int32(0)), *rest


class Vector(Corridor):
    def step_env(self, *args):
        cell, state, reward, *rest = super().step_env(*args)
        return cell, state, reward[None], *rest


class Impure(Corridor):
    calls = 0

    def step_env(self, key, state, action, params):
        type(self).calls += 1
        _, after, *rest = super().step_env(key, state, action, params)
        far = jnp.int32(self.calls % 2 * 3)
        return far, EnvState(cell=far, time=after.time), *rest


class Unbatched(Corridor):
    def tasks(self):
        def params(ids):
            return EnvParams(goal=jnp.asarray(ids), max_steps_in_episode=20)

        return TaskDistribution(params=params, num_tasks=5)


class ListOfTasks(Corridor):
    def tasks(self):
        return [1, 2]


class Bare(Corridor):
    tasks = None


class OneThing(Corridor):
    def reset(self, key, params=None):
        return super().reset(key, params)[0]


class Continuous(Corridor):
    def action_space(self, params=None):
        return spaces.Box(-np.inf, 1.0, (1,))


@pytest.mark.parametrize(
    "world, message",
    [
        (Five, r"step returned 5 values: give \(observation, state, reward, terminated"),
        (
            SixInside,
            r"step_env returned 6 values: give \(observation, state, reward, terminated, info",
        ),
        (
            OrderOfGymnasium,
            "step_env returned .* in place of the state, which has type EnvState in reset_env",
        ),
        (OneTooSmall, r"outside its observation space: \d+, but components go from \[0\] to \[7\]"),
        (Wide, r"reset returned an observation of .*\[2\], but its space has shape \(\)"),
        (Floats, "returned an observation of float32, but its space has dtype int32"),
        (OtherState, r"state whose \.time is float32 \[\], but reset's is int32 \[\]"),
        (NaN, "gave rewards that are NaN or infinite"),
        (Undeclared, r"not in its reward_levels \(0.0, 1.0\): 0.5"),
        (Endless, "did not end within max_steps_in_episode=20 steps"),
        (Vector, r"returned a reward of shape \(1,\): give a scalar"),
        (Impure, "gave a different observation .*: it must be a pure function"),
        (Unbatched, r"the leaf \.max_steps_in_episode of params\(task_ids\) has shape \(\)"),
        (ListOfTasks, "returned list, not a TaskDistribution"),
        (Bare, r"Bare has no method tasks\(\) that returns a TaskDistribution"),
        (OneThing, r"reset returned .*: give \(observation, state\)"),
        (Continuous, "give a vector with finite bounds"),
    ],
)
def test_every_fault_is_one_clear_line(world, message):
    with pytest.raises(UserError, match=message) as error:
        check_env(world())
    assert "\n" not in str(error.value)


def test_rare_observations_are_looked_for_in_several_tasks():
    """Here an observation is outside its space only in the task whose goal is cell 2."""

    class Rare(Corridor):
        def step_env(self, key, state, action, params):
            cell, *rest = super().step_env(key, state, action, params)
            return jnp.where(params.goal == 2, 50, cell), *rest

    with pytest.raises(UserError, match="outside its observation space: 50"):
        check_env(Rare())


def test_tasks_of_an_environment_of_gymnax():
    from experiments.configs import cart_pole

    env, tasks = registry.make("CartPole-v1", cart_pole.tasks)
    check_env(env, tasks)
