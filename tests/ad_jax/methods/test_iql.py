import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from ad_jax.actions import Actions
from ad_jax.errors import UserError
from ad_jax.methods.iql import ICIQL, IQLConfig
from ad_jax.methods.optimizer import OptimizerConfig, make_optimizer
from ad_jax.methods.train_state import INPUTS
from ad_jax.models.base import SequenceModel
from ad_jax.models.transformer import TransformerConfig

PAYS = np.array([0.2, 0.9])  # rewards of the actions in the second step; the first pays nothing
WINDOWS, CONTEXT = 128, 8


def episodes_of_two_steps(seed):
    """Random actions in episodes of two steps; the second action ``a`` gets reward ``PAYS[a]``."""
    rng = np.random.default_rng(seed)
    action = rng.integers(0, 2, (WINDOWS, CONTEXT)).astype(np.int32)
    second = np.tile(np.arange(CONTEXT) % 2 == 1, (WINDOWS, 1))
    reward = np.where(second, PAYS[action], 0.0).astype(np.float32)
    before = lambda x, first: np.concatenate([np.full((WINDOWS, 1), first, x.dtype), x[:, :-1]], 1)
    return {
        "observation": second.astype(np.int32),
        "previous_action": before(action, 2),
        "previous_reward": before(reward, 0.0),
        "is_first": ~second,
        "action": action,
        "task": np.zeros(WINDOWS, np.int32),
    }


def train(steps=1000, **settings):
    """The trained model's outputs for a batch, split into (logits, action values, value)."""
    config = TransformerConfig(width=16, num_layers=1, num_heads=2, mlp_width=32, context=CONTEXT)
    model = SequenceModel(config, spaces.Discrete(2), Actions.discrete(2), extra_outputs=3)
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-2, warmup_steps=10), steps)
    method = ICIQL.make(model, optimizer, None, None, IQLConfig(batch_size=WINDOWS, **settings))
    update = jax.jit(method.update)
    state = method.init(jax.random.key(0), episodes_of_two_steps(0))
    for step in range(steps):
        state, metrics = update(state, episodes_of_two_steps(step), jax.random.key(0))
    batch = episodes_of_two_steps(steps)
    out = model.apply(state.params, **{name: batch[name] for name in INPUTS})
    return jnp.split(out, [2, 4], -1), metrics


def test_values_and_policy_are_the_exact_ones():
    """Oracle: with expectile 0.5, the values are those of the random policy that acted.

    They continue past the end of an episode, which has two steps.
    """
    (logits, q, value), metrics = train(expectile=0.5, discount=0.5, advantage_weight=1.0)
    second = PAYS.mean() / (1 - 0.5**2)
    np.testing.assert_allclose(q[:, 1:-1:2].mean((0, 1)), PAYS + 0.25 * second, atol=0.04)
    np.testing.assert_allclose(value[:, 1::2].mean(), second, atol=0.04)
    np.testing.assert_allclose(q[:, 2::2].mean((0, 1)), [0.5 * second] * 2, atol=0.04)
    # Advantages are ±0.35 in every second step, and 0 in the others.
    deviation = np.sqrt(0.35**2 / 2)
    preference = (logits[..., 1] - logits[..., 0])[:, 1::2].mean()
    np.testing.assert_allclose(preference, 2 * 0.35 / deviation, rtol=0.1)
    assert abs((logits[..., 1] - logits[..., 0])[:, 2::2].mean()) < 0.1  # nothing to choose there
    assert {"loss", "q_loss", "value_loss", "policy_loss", "accuracy", "grad_norm"} == set(metrics)


def test_a_higher_expectile_values_the_best_action():
    (_, _, value), _ = train(expectile=0.95, discount=0.1)
    best = PAYS.max() / (1 - 0.1**2)
    assert best - 0.1 < value[:, 1::2].mean() < best + 0.02


def test_no_advantage_weight_is_imitation():
    (logits, _, _), _ = train(advantage_weight=0.0)
    np.testing.assert_allclose(jax.nn.softmax(logits)[..., 0].mean(), 0.5, atol=0.03)


@pytest.mark.parametrize("expectile", [0.3, 1.0])
def test_expectiles_that_mean_nothing_are_refused(expectile):
    with pytest.raises(UserError, match=r"^expectile=.*0\.5 or more"):
        IQLConfig(expectile=expectile)
