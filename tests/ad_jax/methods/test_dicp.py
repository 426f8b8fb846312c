import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from ad_jax.actions import Actions
from ad_jax.envs.random_mdp import RandomMDP
from ad_jax.errors import UserError
from ad_jax.evaluation.agents import random_agent
from ad_jax.methods.dicp import DICP, DICPConfig, planning_agent, returns_to_go, told
from ad_jax.methods.optimizer import OptimizerConfig, make_optimizer
from ad_jax.methods.train_state import INPUTS
from ad_jax.models.base import SequenceModel
from ad_jax.models.transformer import TransformerConfig
from tests.ad_jax.methods.test_dpt import player


def test_returns_to_go_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    reward, ends = rng.random((5, 30)).astype(np.float32), rng.random((5, 30)) < 0.15
    returns, known = returns_to_go(reward, ends)
    for row in range(5):
        last = np.flatnonzero(ends[row])
        for t in range(30):
            later = last[last >= t]
            assert known[row, t] == bool(len(later))
            if len(later):
                np.testing.assert_allclose(
                    returns[row, t], reward[row, t : later[0] + 1].sum(), rtol=1e-5
                )


class Line:
    """A perfect model of a line of cells, of which the last one pays; its policy is random."""

    actions, space = Actions.discrete(2), spaces.Discrete(7)

    def __init__(self, ends_at=None):
        self.ends_at = ends_at

    def initial_carry(self):
        return jnp.zeros((), jnp.int32)

    def apply(self, params, steps, observation, action, reward, is_first, method):
        assert method == "step"

        def outcome(action):
            following = jnp.clip(observation + 2 * action - 1, 0, 6)
            pays = (following == 6).astype(jnp.float32)
            ends = jnp.where(steps == self.ends_at, 9.0, -9.0) if self.ends_at else -9.0
            told = jnp.stack([pays, jnp.asarray(ends), pays])
            return jnp.concatenate([9.0 * jax.nn.one_hot(following, 7), told])

        of_actions = jax.vmap(outcome)(jnp.arange(2))
        return steps + 1, jnp.concatenate([jnp.zeros(2), of_actions.reshape(-1)])


def first_actions(model, place, plans, horizon, draws=200):
    agent = planning_agent(model, DICPConfig(plans=plans, horizon=horizon), None)

    def act(key):
        memory = agent.init(key)
        return agent.act(memory, jnp.int32(place), jnp.int32(2), jnp.zeros(()), jnp.ones((), bool))

    return jax.jit(jax.vmap(lambda key: act(key)[1]))(jax.random.split(jax.random.key(0), draws))


def test_it_goes_where_its_predictions_pay():
    """Within the horizon. Beyond it, or with a single plan, it acts like its policy, at random."""
    assert first_actions(Line(), 3, plans=64, horizon=3).mean() > 0.99
    assert first_actions(Line(), 5, plans=64, horizon=1).mean() > 0.99
    for place, plans, horizon in ((2, 64, 3), (3, 1, 3)):
        assert 0.35 < first_actions(Line(), place, plans, horizon).mean() < 0.65


def test_nothing_is_promised_after_the_end_of_an_episode():
    assert first_actions(Line(ends_at=2), 3, plans=64, horizon=3).mean() > 0.99
    assert 0.35 < first_actions(Line(ends_at=1), 3, plans=64, horizon=3).mean() < 0.65


def test_it_learns_what_actions_lead_to():
    """Oracle: the environment itself. With one task, nothing has to be inferred in context."""
    env = RandomMDP(num_states=5, num_actions=3, max_steps_in_episode=6)
    params = env.tasks().params(np.array([7]))
    config = TransformerConfig(width=32, num_layers=1, num_heads=2, mlp_width=64, context=12)
    space = env.observation_space(None)
    model = SequenceModel(config, space, Actions.discrete(3), extra_outputs=DICP.extra_outputs(env))
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-2, warmup_steps=10), 300)
    method = DICP.make(model, optimizer, env, params, DICPConfig(batch_size=64, model_cost=1.0))
    update, play = (
        jax.jit(method.update),
        player(env, lambda _: random_agent(Actions.discrete(3)), params, 64, 12),
    )

    def batch_of(seed):
        action, seen = play(jax.random.key(seed))
        flat = {name: x[0] for name, x in (seen | {"action": action}).items()}
        return flat | {"task": jnp.zeros(64, jnp.int32)}

    state = method.init(jax.random.key(0), batch_of(0))
    for step in range(300):
        state, metrics = update(state, batch_of(step), jax.random.key(1))
    assert metrics["observation_loss"] < 0.05 and metrics["reward_loss"] < 0.02

    one = jax.tree.map(lambda x: x[0], params)
    batch = batch_of(1000)
    out = model.apply(state.params, **{name: batch[name] for name in INPUTS})
    state_of = lambda number: env.known_state(number, None, jnp.zeros((), jnp.int32))
    for action in range(3):
        act = jnp.full(batch["action"].shape, action)
        (components,), rest = told(model, out, act)
        outcome = lambda s, a: env.step_env(None, state_of(s), a, one)[:3]
        following, _, reward = jax.vmap(jax.vmap(outcome))(batch["observation"], act)
        ends = jnp.arange(12) % 6 == 5  # after which the next episode's first state comes
        agree = (components.argmax(-1) == following)[:, ~ends]
        assert agree.mean() > 0.99, action
        np.testing.assert_allclose(rest[..., 0].mean(), reward.mean(), atol=0.05)
        told_ends = rest[:, :-1, 1] > 0  # a window does not show whether its last step is one
        assert (told_ends == ends[:-1]).mean() > 0.99


def test_what_it_can_not_predict_is_refused():
    class Floats:
        default_params = None

        def observation_space(self, params):
            return spaces.Box(0.0, 1.0, (2,))

        def action_space(self, params):
            return spaces.Discrete(2)

    with pytest.raises(UserError, match="it needs whole numbers"):
        DICP.extra_outputs(Floats())
    with pytest.raises(UserError, match=r"^evaluation.mode='exact': DICP plans"):
        planning_agent(Line(), DICPConfig(), None, mode="exact")
