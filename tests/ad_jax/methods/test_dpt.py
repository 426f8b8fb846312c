import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ad_jax.actions import Actions
from ad_jax.envs.adversarial_bandit import AdversarialBandit, EnvParams
from ad_jax.envs.dark_key_to_door import DarkKeyToDoor
from ad_jax.envs.recorded import Recorded
from ad_jax.errors import UserError
from ad_jax.evaluation.agents import optimal_agent, random_agent
from ad_jax.methods.ad import ADConfig
from ad_jax.methods.dpt import DPT, make_labels
from ad_jax.methods.optimizer import OptimizerConfig, make_optimizer
from ad_jax.methods.train_state import INPUTS
from ad_jax.models.base import SequenceModel
from ad_jax.models.transformer import TransformerConfig
from ad_jax.rollout import make_rollouts, recording


def player(env, make_agent, params, rollouts, steps):
    """``play(key) -> (actions [task, rollout, time], the model's inputs, with the same axes)``."""
    init, advance = make_rollouts(env, lambda params: recording(make_agent(params)))
    number = jnp.arange(len(jax.tree.leaves(params)[0]))

    @jax.jit
    def play(key):
        _, history, seen = advance(init(key, number, params, rollouts), steps)
        return history.action, seen

    return play


def test_labels_are_what_the_optimal_agent_does():
    """Oracle: it has played the histories itself, so each label must be the action taken."""
    env = DarkKeyToDoor(size=4, max_steps_in_episode=12)
    params = env.tasks().params(np.array([3, 77, 150]))
    play = player(env, lambda params: optimal_agent(env, params), params, 1, 60)
    action, seen = play(jax.random.key(0))
    labels = jax.jit(make_labels(env, params))
    begin = 5  # in the middle of an episode
    task = jnp.array([2, 0, 1])
    cut = {name: seen[name][task, 0, begin:] for name in INPUTS}
    label, known = labels(task, cut)
    np.testing.assert_array_equal(known, np.tile(np.arange(55) >= 12 - begin, (3, 1)))
    np.testing.assert_array_equal(label[known], action[task, 0, begin:][known])
    other, _ = labels(task[::-1], cut)
    # Another task has other labels, except after the last reward, when all actions are as good.
    assert (other != label)[known].mean() > 0.1


def test_it_predicts_the_posterior():
    """Oracle: Bayes' rule for two tasks. Sampling actions from it is Thompson sampling."""
    env = AdversarialBandit(num_arms=2, max_steps_in_episode=8)
    pays = jnp.array([[0.8, 0.2], [0.2, 0.8]])
    params = EnvParams(probability=pays, max_steps_in_episode=jnp.full(2, 8))
    config = TransformerConfig(width=32, num_layers=2, num_heads=2, mlp_width=64, context=8)
    model = SequenceModel(config, env.observation_space(None), Actions.discrete(2))
    optimizer = make_optimizer(OptimizerConfig(learning_rate=3e-3, warmup_steps=20), 300)
    method = DPT.make(model, optimizer, env, params, ADConfig(batch_size=256))
    update = jax.jit(method.update)
    play = player(env, lambda _: random_agent(Actions.discrete(2)), params, 128, 8)

    def batch_of(seed):
        action, seen = play(jax.random.key(seed))
        flat = {name: x.reshape(256, 8) for name, x in (seen | {"action": action}).items()}
        return flat | {"task": jnp.repeat(jnp.arange(2), 128)}

    state = method.init(jax.random.key(0), batch_of(0))
    for step in range(300):
        state, metrics = update(state, batch_of(step), jax.random.key(1))

    batch = batch_of(1000)
    logits = model.apply(state.params, **{name: batch[name] for name in INPUTS})
    arm, reward = np.asarray(batch["previous_action"]), np.asarray(batch["previous_reward"])
    chance = np.asarray(pays)[:, np.minimum(arm, 1)]  # of a reward, [task, window, time]
    likelihood = np.where(arm < 2, np.where(reward > 0, chance, 1 - chance), 1.0)
    odds = np.cumprod(likelihood, -1)
    posterior = odds[0] / odds.sum(0)  # that arm 0 is the best one
    error = np.abs(jax.nn.softmax(logits)[..., 0] - posterior)
    assert posterior.std() > 0.3 and error.mean() < 0.04, (posterior.std(), error.mean())
    assert metrics["loss"] < 0.45


def test_environments_without_an_optimal_policy_are_refused():
    env = Recorded()
    with pytest.raises(UserError, match=r"DPT.*no optimal policy is known"):
        DPT.make(None, None, env, None, ADConfig())
