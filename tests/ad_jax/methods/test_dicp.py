import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from ad_jax.actions import Actions
from ad_jax.envs.random_mdp import RandomMDP
from ad_jax.errors import UserError
from ad_jax.evaluation.agents import model_agent, random_agent
from ad_jax.methods.dicp import DICP, DICPConfig, outcome_of, planning_agent, with_maximum
from ad_jax.methods.optimizer import OptimizerConfig, make_optimizer
from ad_jax.methods.train_state import INPUTS
from ad_jax.models.base import SequenceModel
from ad_jax.models.transformer import TransformerConfig
from tests.ad_jax.methods.test_dpt import player


class Line:
    """A perfect model of a line of cells, of which the last one pays.

    Its policy goes right with probability ``right``. If ``ends_at`` is given, the episode ends
    after that step.
    """

    actions, space = Actions.discrete(2), spaces.Discrete(7)

    def __init__(self, ends_at=None, right=0.5, reward=1.0):
        self.ends_at, self.right, self.reward = ends_at, right, reward

    def initial_carry(self):
        return jnp.zeros((), jnp.int32)

    def apply(self, params, steps, observation, action, reward, is_first, method):
        assert method == "step"

        def outcome(action):
            following = jnp.clip(observation + 2 * action - 1, 0, 6)
            pays = self.reward * (following == 6)
            ends = jnp.where(steps == self.ends_at, 9.0, -9.0) if self.ends_at else -9.0
            told = jnp.stack([pays, jnp.asarray(ends)])
            return jnp.concatenate([9.0 * jax.nn.one_hot(following, 7), told])

        of_actions = jax.vmap(outcome)(jnp.arange(2))
        policy = jnp.log(jnp.array([1 - self.right, self.right]))
        return steps + 1, jnp.concatenate([policy, of_actions.reshape(-1)])


def first_actions(model, place, beam_size, horizon, draws=400, **options):
    settings = DICPConfig(beam_size=beam_size, horizon=horizon)
    agent = planning_agent(model, (0.0, 1.0), settings, None, **options)

    def act(key):
        memory = agent.init(key)
        return agent.act(memory, jnp.int32(place), jnp.int32(2), jnp.zeros(()), jnp.ones((), bool))

    return jax.jit(jax.vmap(lambda key: act(key)[1]))(jax.random.split(jax.random.key(0), draws))


def test_it_goes_where_its_predictions_pay():
    """Within the horizon, even against its policy, and even if only one sequence is kept."""
    for place, beam_size, horizon in ((3, 8, 3), (3, 64, 3), (5, 1, 1), (5, 1, 3)):
        assert (first_actions(Line(right=0.1), place, beam_size, horizon) == 1).all()


def test_where_nothing_is_predicted_it_acts_like_its_policy():
    """Beyond the horizon, where the episode has ended, or where a reward is nearer to none."""
    for model, place, beam_size, horizon in (
        (Line(right=0.8), 2, 10, 3),
        (Line(right=0.8), 2, 1, 3),
        (Line(right=0.8, ends_at=1), 3, 10, 3),
        (Line(right=0.8, reward=0.4), 3, 10, 3),
    ):
        # Of 400 draws with probability 0.8, four standard deviations are 0.08.
        right = first_actions(model, place, beam_size, horizon).mean()
        assert 0.72 < right < 0.88
        assert (first_actions(model, place, beam_size, horizon, temperature=0.0) == 1).all()


def test_nothing_is_promised_after_the_end_of_an_episode():
    assert (first_actions(Line(ends_at=2), 3, 8, 3) == 1).all()
    assert (first_actions(Line(ends_at=1), 3, 8, 3) == 0).any()


def test_a_beam_that_keeps_all_sequences_finds_the_best_of_them():
    """Oracle: all sequences of actions, one after the other, with predictions drawn at random."""
    horizon, num_actions, num_states = 4, 3, 5
    rng = np.random.default_rng(0)
    following = rng.integers(0, num_states, (num_states, num_actions))
    rewards = rng.random((num_states, num_actions)).astype(np.float32)

    class Drawn:
        actions, space = Actions.discrete(num_actions), spaces.Discrete(num_states)

        def initial_carry(self):
            return jnp.zeros(())

        def apply(self, params, memory, observation, action, reward, is_first, method):
            where = jax.nn.one_hot(jnp.asarray(following)[observation], num_states)
            pays = jnp.asarray(rewards)[observation][:, None]
            told = jnp.concatenate([where, pays, -jnp.ones((num_actions, 1))], -1)
            return memory, jnp.concatenate([jnp.zeros(num_actions), told.reshape(-1)])

    settings = DICPConfig(beam_size=num_actions**horizon, horizon=horizon, discount=0.9)
    agent = planning_agent(Drawn(), None, settings, None)
    act = jax.jit(lambda key, state: agent.act(
        agent.init(key), state, jnp.int32(0), jnp.zeros(()), jnp.ones((), bool)
    )[1])  # fmt: skip
    for start in range(num_states):
        best = max(itertools.product(range(num_actions), repeat=horizon),
                   key=lambda actions: discounted(start, actions, following, rewards))  # fmt: skip
        assert act(jax.random.key(start), jnp.int32(start)) == best[0]


def test_sequences_that_have_ended_leave_room_for_others():
    """Action 0 pays 1 and ends the episode; three times action 1, and every step pays 1."""

    class Door:
        actions, space = Actions.discrete(2), spaces.Discrete(8)

        def initial_carry(self):
            return jnp.zeros(())

        def apply(self, params, memory, observation, action, reward, is_first, method):
            following = jax.nn.one_hot(jnp.minimum(observation + 1, 7), 8)
            far = jnp.where(observation >= 3, 1.0, 0.0)
            leave = jnp.concatenate([following, jnp.array([1.0, 9.0])])
            stay = jnp.concatenate([following, jnp.stack([far, jnp.float32(-9)])])
            return memory, jnp.concatenate([jnp.zeros(2), leave, stay])

    assert (first_actions(Door(), 0, beam_size=8, horizon=7, draws=20) == 1).all()
    assert (first_actions(Door(), 0, beam_size=8, horizon=3, draws=20) == 0).all()


def discounted(state, actions, following, rewards):
    total = 0.0
    for time, action in enumerate(actions):
        total += 0.9**time * rewards[state, action]
        state = following[state, action]
    return total


def test_draws_with_a_maximum_have_it_and_keep_their_order():
    drawn = np.random.default_rng(0).gumbel(size=(50, 4)).astype(np.float32)
    maximum = np.linspace(-3, 3, 50, dtype=np.float32)[:, None]
    found = with_maximum(drawn, maximum)
    np.testing.assert_allclose(found.max(-1, keepdims=True), maximum, rtol=1e-5)
    np.testing.assert_array_equal(found.argsort(-1), drawn.argsort(-1))
    # Oracle: among independent draws, those whose maximum happens to be near 1.
    many = np.random.default_rng(1).gumbel(size=(400_000, 2))
    near = many[np.abs(many.max(-1) - 1) < 0.02].min(-1)
    lower = with_maximum(jnp.asarray(many[:50_000]), jnp.ones((50_000, 1))).min(-1)
    quantiles = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(
        np.quantile(lower, quantiles), np.quantile(near, quantiles), atol=0.05
    )


def test_without_a_horizon_it_acts_like_algorithm_distillation():
    env = RandomMDP(num_states=5, num_actions=3, max_steps_in_episode=6)
    params = env.tasks().params(np.array([7]))
    config = TransformerConfig(width=16, num_layers=1, num_heads=1, mlp_width=16, context=6)
    space = env.observation_space(None)
    model = SequenceModel(config, space, Actions.discrete(3), extra_outputs=DICP.extra_outputs(env))
    optimizer = make_optimizer(OptimizerConfig(), 300)
    made = DICP.make(model, optimizer, env, params, DICPConfig(horizon=0))
    assert made.agent.func is model_agent


def test_it_learns_what_actions_lead_to():
    """Oracle: the environment itself. With one task, nothing has to be inferred in context."""
    env = RandomMDP(num_states=5, num_actions=3, max_steps_in_episode=6)
    params = env.tasks().params(np.array([7]))
    config = TransformerConfig(width=32, num_layers=1, num_heads=2, mlp_width=64, context=12)
    space = env.observation_space(None)
    model = SequenceModel(config, space, Actions.discrete(3), extra_outputs=DICP.extra_outputs(env))
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-2, warmup_steps=10), 300)
    method = DICP.make(model, optimizer, env, params, DICPConfig(batch_size=64))
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
        (components,), predicted_reward, predicted_end = outcome_of(model, out, act)
        lead_to = lambda s, a: env.step_env(None, state_of(s), a, one)[:3]
        following, _, reward = jax.vmap(jax.vmap(lead_to))(batch["observation"], act)
        ends = jnp.arange(12) % 6 == 5  # after which the next episode's first state comes
        agree = (components.argmax(-1) == following)[:, ~ends]
        assert agree.mean() > 0.99, action
        np.testing.assert_allclose(predicted_reward.mean(), reward.mean(), atol=0.05)
        # A window does not show whether its last step ends an episode.
        assert ((predicted_end[:, :-1] > 0) == ends[:-1]).mean() > 0.99


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
        planning_agent(Line(), None, DICPConfig(), None, mode="exact")
