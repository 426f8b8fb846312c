"""Looking observations up in a table gives the outputs of the network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from ad_jax.envs.dark_key_to_door import DarkKeyToDoor
from ad_jax.envs.spaces import component_sizes
from ad_jax.sources.networks import MAX_TABLE, ActorCritic, over_observations

GRID = spaces.Box(0, 4, (2,), jnp.int32)
PRIVILEGED = DarkKeyToDoor(size=4).privileged_observation_space()  # its bounds are arrays
SHIFTED = spaces.Box(np.array([-3, 5]), np.array([-1, 9]), (2,), jnp.int32)
SQUARE = spaces.Box(-1, 1, (2, 2), jnp.int32)
SMALL = (GRID, PRIVILEGED, SHIFTED, SQUARE, spaces.Discrete(7))


def observations(space, lead=(4, 6), seed=0):
    """Random observations [*lead, *space.shape], which reach both ends of every component."""
    rng = np.random.default_rng(seed)
    if isinstance(space, spaces.Discrete):
        values = rng.integers(space.n, size=lead, dtype=np.int32)
        values.flat[:2] = 0, space.n - 1
        return values
    low, high = (np.broadcast_to(bound, space.shape) for bound in (space.low, space.high))
    values = rng.integers(low, high + 1, size=(*lead, *space.shape), dtype=np.int32)
    values[(0,) * len(lead)], values[(-1,) * len(lead)] = low, high
    return values


def network_and_params(space):
    """A network whose heads are not zero, so that every observation has an output of its own."""
    network = ActorCritic(space, 3, (8,))
    params = jax.jit(network.init)(jax.random.key(0), observations(space)[0, 0])
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(0)
    leaves = [leaf + rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    return network, jax.tree.unflatten(tree, leaves)


class Recorder:
    """Forwards calls to a network and records the shapes of the observations."""

    def __init__(self, network):
        self.network, self.space, self.shown = network, network.space, []

    def apply(self, params, observation):
        self.shown.append(observation.shape)
        return self.network.apply(params, observation)


@pytest.mark.parametrize("space", SMALL, ids=str)
def test_look_up_equals_the_network(space):
    """Oracle: the network. Compares outputs, and gradients with respect to the parameters."""
    network, params = network_and_params(space)
    seen = observations(space)
    weight = np.random.default_rng(2).normal(size=(4, 6, 4)).astype(np.float32)

    def loss(params, bind):
        logits, value = bind(params)(seen)
        log_probs = jax.nn.log_softmax(logits)
        total = (log_probs * weight[..., :3]).sum() + (value**2 * weight[..., 3]).sum()
        return total, (logits, value)

    gradient = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
    looked_up, (logits, value) = gradient(params, over_observations(network))
    direct, expected = gradient(params, lambda params: lambda o: network.apply(params, o))
    assert logits.shape == (4, 6, 3) and value.shape == (4, 6)
    np.testing.assert_allclose(logits, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(value, expected[1], rtol=1e-5, atol=1e-6)
    # The observations' outputs differ, so that a look-up in the wrong place would show.
    distinct = len(np.unique(seen.reshape(24, -1), axis=0))
    assert len(np.unique(np.asarray(value).round(4))) == distinct > 5
    for got, want in zip(*map(jax.tree.leaves, (looked_up, direct)), strict=True):
        scale = np.abs(want).max()
        assert scale > 0
        np.testing.assert_allclose(got / scale, want / scale, atol=1e-5)


def test_a_single_observation_is_looked_up():
    """Without leading axes."""
    network, params = network_and_params(SHIFTED)
    for observation in np.array([[-3, 5], [-2, 9], [-1, 5]]):
        logits, value = over_observations(network)(params)(observation)
        expected_logits, expected_value = network.apply(params, observation)
        np.testing.assert_allclose(logits, expected_logits, rtol=1e-5)
        np.testing.assert_allclose(value, expected_value, rtol=1e-5)


@pytest.mark.parametrize("space", [SQUARE, spaces.Discrete(7)], ids=str)
def test_a_small_space_is_evaluated_once(space):
    network, params = network_and_params(space)
    recorder = Recorder(network)
    policy = over_observations(recorder)(params)
    for seed in range(3):
        policy(observations(space, seed=seed))
    assert recorder.shown == [(np.prod(component_sizes(space)), *space.shape)]


@pytest.mark.parametrize(
    ("space", "table"),
    [
        (spaces.Box(0, 31, (2,), jnp.int32), True),  # 1024 = MAX_TABLE
        (spaces.Discrete(MAX_TABLE + 1), False),
        (spaces.Box(0, 10, (3,), jnp.int32), False),
        (spaces.Box(0, 255, (8,), jnp.int32), False),  # 2**64 observations, which int64 can't hold
    ],
    ids=str,
)
def test_a_large_space_is_not_evaluated_as_a_whole(space, table):
    network, params = network_and_params(space)
    recorder = Recorder(network)
    seen = observations(space)
    policy = over_observations(recorder)(params)
    assert recorder.shown == ([(MAX_TABLE, *space.shape)] if table else [])
    logits, value = policy(seen)
    expected_logits, expected_value = network.apply(params, seen)
    np.testing.assert_allclose(logits, expected_logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(value, expected_value, rtol=1e-5, atol=1e-6)


def test_bounds_of_bytes_do_not_overflow():
    """255 - 0 + 1 does not fit into a byte."""
    low, high = np.zeros(2, np.uint8), np.full(2, 255, np.uint8)
    assert component_sizes(spaces.Box(low, high, (2,), jnp.uint8)).tolist() == [256, 256]


def test_float_observations_go_through_the_network():
    space = spaces.Box(-1.0, 1.0, (2,), jnp.float32)
    network = ActorCritic(space, 3, (8,))
    seen = np.random.default_rng(0).uniform(-1, 1, (5, 2)).astype(np.float32)
    params = jax.tree.map(lambda x: x + 0.3, network.init(jax.random.key(0), seen[0]))
    recorder = Recorder(network)
    logits, value = over_observations(recorder)(params)(seen)
    assert recorder.shown == [(5, 2)]
    assert logits.shape == (5, 3) and value.shape == (5,)
    # Fractions of observations count.
    assert len(np.unique(value)) == 5


def test_components_are_embedded_one_by_one():
    """What is learnt about x at one y holds at every other y: only a sum enters the tanh."""
    network, params = network_and_params(SHIFTED)
    assert params["params"]["policy_0"]["kernel"].shape == (3 + 5, 8)
    kernel = np.asarray(params["params"]["value_0"]["kernel"])
    bias = np.asarray(params["params"]["value_0"]["bias"])
    head = params["params"]["value_head"]
    hidden = np.tanh(kernel[1] + kernel[3 + 4] + bias)  # x = -2 is the second, y = 9 the last
    expected = hidden @ np.asarray(head["kernel"])[:, 0] + np.asarray(head["bias"])[0]
    np.testing.assert_allclose(network.apply(params, np.array([-2, 9]))[1], expected, rtol=1e-5)


def test_a_fresh_network_is_indifferent():
    """Zero heads: the first histories are those of the uniform policy."""
    network = ActorCritic(GRID, 5, (8,))
    seen = observations(GRID)
    logits, value = network.apply(network.init(jax.random.key(1), seen[0, 0]), seen)
    assert not np.any(logits) and not np.any(value)
