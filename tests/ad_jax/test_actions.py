"""Distributions over actions follow their definitions, and components are independent."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ad_jax.actions import Actions
from ad_jax.errors import UserError

ONE, TWO = Actions.discrete(3), Actions((3, 2))


def test_probabilities_entropies_and_cross_entropies():
    """Policies (1/2, 1/4, 1/4) and (1/8, 1/8, 3/4), whose logits are shifted by a constant."""
    probability = np.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]])
    logits, action = (np.log(probability) + 3).astype(np.float32), np.array([0, 2])
    np.testing.assert_allclose(ONE.log_prob(logits, action), np.log([0.5, 0.75]), rtol=1e-5)
    expected = -(probability * np.log(probability)).sum(1)
    np.testing.assert_allclose(ONE.entropy(logits), expected, rtol=1e-5)
    target = 0.7 * np.eye(3)[action] + 0.1
    expected = -(target * np.log(probability)).sum(1)
    np.testing.assert_allclose(ONE.cross_entropy(logits, action, 0.3), expected, rtol=1e-5)
    np.testing.assert_allclose(
        ONE.cross_entropy(logits, action), -ONE.log_prob(logits, action), rtol=1e-6
    )
    np.testing.assert_array_equal(ONE.best(logits), [0, 2])


def test_components_are_drawn_independently():
    """Oracle: the distribution over all pairs, as a product."""
    logits = jnp.array([0.3, -1.0, 0.5, 0.2, 1.4])
    first, second = jax.nn.softmax(logits[:3]), jax.nn.softmax(logits[3:])
    joint = np.outer(first, second)
    pairs = np.array(list(itertools.product(range(3), range(2))))
    many = jnp.tile(logits, (6, 1))
    np.testing.assert_allclose(TWO.log_prob(many, pairs), np.log(joint).reshape(-1), rtol=1e-5)
    np.testing.assert_allclose(
        TWO.cross_entropy(many, pairs), -np.log(joint).reshape(-1), rtol=1e-5
    )
    np.testing.assert_allclose(TWO.entropy(logits), -(joint * np.log(joint)).sum(), rtol=1e-5)
    np.testing.assert_array_equal(TWO.best(logits), [2, 1])
    keys = jax.random.split(jax.random.key(0), 20_000)
    for draw, expected in (
        (lambda key: TWO.draw(key, logits), joint),
        (TWO.draw_any, np.full((3, 2), 1 / 6)),
    ):
        drawn = np.asarray(jax.jit(jax.vmap(draw))(keys))
        share = np.zeros((3, 2))
        np.add.at(share, tuple(drawn.T), 1 / len(drawn))
        np.testing.assert_allclose(share, expected, atol=0.012)


def test_shapes_of_actions():
    assert (ONE.shape, TWO.shape) == ((), (2,)) and (ONE.num_logits, TWO.num_logits) == (3, 5)
    assert ONE.none == 3 and TWO.none.tolist() == [3, 2]
    assert ONE.outside(np.array([-1, 0, 3])).tolist() == [True, False, True]
    assert TWO.outside(np.array([[2, 1], [0, 2]])).tolist() == [False, True]
    assert TWO.equal(np.array([[2, 1], [0, 0]]), np.array([2, 1])).tolist() == [True, False]
    assert ONE.components(np.zeros((4, 5))).shape == (4, 5, 1)


def test_who_compares_all_actions_refuses_components():
    assert ONE.number("DQN") == 3
    with pytest.raises(UserError, match=r"^DQN needs a single discrete action, .* 2 parts"):
        TWO.number("DQN")
