import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ad_jax.actions import Actions
from ad_jax.envs import registry
from ad_jax.errors import UserError
from ad_jax.evaluation.agents import model_agent
from ad_jax.methods import rl2
from ad_jax.methods.optimizer import OptimizerConfig, make_optimizer
from ad_jax.methods.train_state import init_state
from ad_jax.models.base import SequenceModel
from ad_jax.models.lstm import LSTMConfig
from ad_jax.models.transformer import TransformerConfig
from ad_jax.rollout import make_rollouts, recording
from tests.ad_jax.models.test_transformer import spread


def make_model(env, core="lstm", context=20):
    space = env.observation_space(env.default_params)
    if core == "lstm":
        config = LSTMConfig(width=16, hidden=16, mlp_width=16, context=context)
        return SequenceModel(config, space, Actions.of(env), extra_outputs=1)
    config = TransformerConfig(width=16, num_layers=1, num_heads=2, mlp_width=32, context=context)
    return SequenceModel(config, space, Actions.of(env), extra_outputs=1)


@pytest.mark.parametrize("core", ["lstm", "transformer"])
def test_what_is_learnt_from_is_what_was_done(core):
    """Oracle: acting step by step. The pass over whole trials agrees with it across episode ends:
    the memory is empty at the start of a trial, and kept from episode to episode."""
    env, tasks = registry.make("DarkRoom", size=3, max_steps_in_episode=5)
    model, params = make_model(env, core), tasks.params(np.arange(4))
    variables = jax.jit(model.init)(
        jax.random.key(0), jnp.zeros((1, 1, 2), jnp.int32), jnp.zeros((1, 1), jnp.int32),
        jnp.zeros((1, 1)), jnp.zeros((1, 1), bool),
    )  # fmt: skip
    variables = spread(variables)
    agent = model_agent(model, variables, temperature=0.0)
    init, advance = make_rollouts(env, lambda _: recording(agent))
    _, *played = advance(init(jax.random.key(1), jnp.arange(4), params, 1), 20)
    history, inputs = jax.tree.map(lambda x: x[:, 0], played)
    assert history.is_first.sum(1).tolist() == [4] * 4
    logits = model.apply(variables, **inputs)[..., :-1]
    assert (logits.argmax(-1) == history.action).all()
    other = inputs | {"previous_reward": inputs["previous_reward"].at[:, 2].add(5.0)}
    changed = np.abs(model.apply(variables, **other)[..., :-1] - logits).max((0, 2))
    assert (changed[:2] == 0).all() and changed[10:].max() > 1e-6


@pytest.mark.parametrize("core", ["lstm", "transformer"])
def test_it_learns_to_learn_which_arm_pays(core):
    """The task is which of two arms pays. The best mean return of a trial of 10 pulls is 9.5, since
    the first pull is a guess; a policy without memory gets 5."""
    env, _ = registry.make("AdversarialBandit", num_arms=2, max_steps_in_episode=10)
    probability = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    env_params = env.default_params.replace(
        probability=probability, max_steps_in_episode=jnp.full(2, 10)
    )
    model, updates = make_model(env, core), 150
    config = rl2.RL2Config(num_trials=32, episodes=1, num_epochs=1, num_minibatches=2, discount=0.9)
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-2, warmup_steps=5), 2 * updates)
    update = rl2.make_update(env, env_params, model, optimizer, config, 10)
    state = init_state(jax.random.key(0), model, optimizer)

    @jax.jit
    def train(state):
        body = lambda state, _: update(state, jax.random.key(1))
        return jax.lax.scan(body, state, length=updates)

    state, metrics = train(state)
    assert int(state.step) == updates
    assert abs(float(metrics["trial_reward"][0]) - 5) < 1.5
    assert metrics["trial_reward"][-10:].mean() > 9


def test_the_logged_loss_is_the_loss_that_is_minimised():
    """Including the entropy term. All terms are means over minibatches, so they add up."""
    env, tasks = registry.make("DarkRoom", size=3, max_steps_in_episode=5)
    model = make_model(env)
    config = rl2.RL2Config(num_trials=4, num_minibatches=2, episodes=2, entropy_cost=0.5)
    optimizer = make_optimizer(OptimizerConfig(warmup_steps=1), 10)
    update = rl2.make_update(env, tasks.params(np.arange(4)), model, optimizer, config, 10)
    _, metrics = jax.jit(update)(init_state(jax.random.key(0), model, optimizer), jax.random.key(1))
    assert metrics["entropy"] > 1
    expected = metrics["policy_loss"] + config.value_cost * metrics["value_loss"]
    expected -= config.entropy_cost * metrics["entropy"]
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)


def test_minibatches_of_whole_trials():
    with pytest.raises(UserError, match=r"num_minibatches=3 does not divide"):
        rl2.RL2Config(num_trials=8, num_minibatches=3)


def test_an_image_encoder_is_initialised_with_what_agents_see():
    """Its mean and deviation come from episodes, not from one image of zeros."""
    env, tasks = registry.make("DarkRoom", size=3, max_steps_in_episode=5)
    render = lambda x: jnp.tile(x[..., None, None, :1] * 100, (2, 2, 3)).astype(jnp.uint8)
    config = LSTMConfig(width=16, hidden=16, mlp_width=16, context=10)
    space = env.observation_space(env.default_params)
    model = SequenceModel(config, space, Actions.of(env), render, extra_outputs=1)
    optimizer = make_optimizer(OptimizerConfig(warmup_steps=5), 10)
    settings = rl2.RL2Config(num_trials=4, num_minibatches=2, episodes=2)
    env_params = tasks.params(np.arange(9))
    method = rl2.make(model, optimizer, env, env_params, settings)
    state = jax.jit(method.init)(jax.random.key(0), ())
    seen = rl2.random_inputs(env, env_params, jax.random.fold_in(jax.random.key(0), 1))
    assert seen["observation"].shape == (9, 5, 2) and np.ptp(seen["observation"]) == 2
    pictures = render(seen["observation"]).astype(jnp.float32) / 255
    encoder = state.params["params"]["embed"]["ImageEncoder_0"]
    np.testing.assert_allclose(encoder["mean"], pictures.mean((0, 1)), atol=1e-5)
    assert (encoder["deviation"] > 0.1).all()


@pytest.mark.parametrize("name", ["dropout", "attention_dropout", "mask_probability"])
def test_what_would_change_the_policy_between_acting_and_learning_is_refused(name):
    env, _ = registry.make("DarkRoom", size=3, max_steps_in_episode=5)
    model = make_model(env, "transformer")
    rl2.validate(rl2.RL2Config(episodes=4), model, 5, False)
    noisy = model.clone(config=dataclasses.replace(model.config, **{name: 0.1}))
    with pytest.raises(UserError, match=f"^{name}=0.1: RL2 learns from"):
        rl2.validate(rl2.RL2Config(episodes=4), noisy, 5, False)
    with pytest.raises(UserError, match=r"^context=20 is shorter than an RL2 trial of 25 steps"):
        rl2.validate(rl2.RL2Config(episodes=5), model, 5, False)
