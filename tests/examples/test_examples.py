"""The examples do what they say, and run to a report without changes to the library."""

import json
import sys

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

from ad_jax.actions import Actions
from ad_jax.errors import UserError
from ad_jax.learner import load
from ad_jax.models.base import SequenceModel
from examples import config as example
from examples.corridor import Corridor
from examples.min_gru import MinGRU
from examples.q_learning import QConfig, make
from experiments import validation
from experiments.runtime.interruption import Interruption
from experiments.runtime.workdir import Workdir
from experiments.stages import collect, evaluate, report, train
from tests.experiments.conftest import ROOT, finish, start


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of the smoke preset, made by the command: (workdir, output)."""
    workdir = tmp_path_factory.mktemp("examples") / "run"
    options = "--config.late.skip=0.5", "--config.env.kwargs.length=6"
    command = start(workdir, *options, config="examples/config.py")
    status, output = finish(command)
    assert status == 0, output
    return workdir, output


def test_all_four_run_to_a_report(run):
    workdir, output = run
    summary = json.loads((workdir / "report" / "summary.json").read_text())
    assert summary["environment"] == "Corridor" and summary["method"] == "examples.late:late"
    assert summary["source"]["name"] == "examples.q_learning:q_learning"
    assert "Corridor" in output
    stored = json.loads((workdir / "config.json").read_text())
    assert stored["late"]["skip"] == 0.5 and stored["env"]["kwargs"]["length"] == 6
    assert stored["source"]["q_learning"]["rollout_steps"] == 8 and stored["model"]["state"] == 16


def test_what_was_trained_is_loaded_and_acts(run):
    learner = load(run[0])
    assert isinstance(learner.env, Corridor) and learner.env.length == 6
    assert isinstance(learner.model.config, MinGRU)
    assert learner.evaluate(episodes=2, rollouts=2).shape == (2, 2, 2)


def test_a_module_that_is_gone_is_one_clear_line(run, tmp_path):
    text = (run[0] / "config.json").read_text().replace("examples.corridor", "examples.gone")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"env.name='examples.gone:Corridor' can't be imported"):
        load(tmp_path)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("source.name", "examples.q_learning:make", "is function: give a SourceSpec"),
        ("model.core", "examples.min_gru:Core", "give a subclass of CoreConfig"),
        ("method", "examples.late:make", "give a MethodSpec"),
        ("env.name", "examples.corridor:Corridors", "no attribute 'Corridors'"),
        ("env.kwargs.width", 3, "are not valid for .*width"),
        ("late.skip", "much", "late.skip='much': give a value like 0.25"),
        ("source.q_learning.epsilon", float("nan"), "source.q_learning.epsilon=nan: give a"),
        ("model.state", 0, "model.state=0"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(key, value, message):
    config = example.get_config("smoke")
    within = config
    *groups, last = key.split(".")
    for group in groups:
        within = within[group]
    with within.ignore_type():
        within[last] = value
    with pytest.raises(UserError, match=message):
        validation.validate(config)


def test_a_source_that_does_not_suit_says_so():
    from experiments.configs import dark_room

    config = dark_room.get_config("smoke")
    config.source.name = "examples.q_learning:q_learning"
    with pytest.raises(UserError, match="DarkRoom has no single number"):
        validation.validate(config)


def test_q_learning_learns_every_goal():
    env = Corridor(length=7, max_steps_in_episode=10)
    source = make(env, QConfig(num_streams=8, rollout_steps=10, epsilon_steps=400))
    params = env.tasks().params(np.arange(7))

    @jax.jit
    def run(params):
        state = source.init(jax.random.key(0), params)
        return jax.lax.scan(lambda s, _: source.step(s), state, length=80)[1]

    history = jax.vmap(run)(params)  # [task, update, stream, step]
    returns = history.reward.sum(-1).mean(2)
    best = 10 - np.maximum(np.abs(np.arange(7) - 3) - 1, 0)
    assert (returns[:, :3].mean(1) < returns[:, -3:].mean(1)).all()
    np.testing.assert_allclose(returns[:, -3:].mean(1), best, atol=1.3)


def test_the_core_gives_the_same_step_by_step_and_looks_at_the_past_alone():
    model = SequenceModel(
        MinGRU(width=8, context=12, state=6), Corridor().observation_space(), Actions.discrete(3)
    )
    rng = np.random.default_rng(0)
    steps = (
        rng.integers(13, size=(1, 12)), rng.integers(4, size=(1, 12)),
        rng.random((1, 12)).astype(np.float32), rng.random((1, 12)) < 0.2,
    )  # fmt: skip
    params = model.init(jax.random.key(0), *steps)
    whole = model.apply(params, *steps)[0]
    carry, rows = model.initial_carry(), []
    for t in range(12):
        carry, row = model.apply(params, carry, *(s[0, t] for s in steps), method="step")
        rows.append(row)
    np.testing.assert_allclose(whole, np.stack(rows), atol=1e-5)
    reward_at = lambda r: model.apply(params, steps[0], steps[1], r, steps[3])[0, 5].sum()
    reads = jnp.abs(jax.grad(reward_at)(jnp.asarray(steps[2])))[0]
    assert (reads[:6] > 0).all() and (reads[6:] == 0).all()


def test_the_examples_also_run_in_one_process(tmp_path):
    """Stage by stage, with the source's own settings changed."""
    never = Interruption()
    config = example.get_config("smoke")
    config.source.q_learning.num_streams = 4
    config.collect.min_improved = 0.0
    workdir = Workdir(tmp_path, config)
    for stage in (collect, train, evaluate, report):
        stage.run(config, workdir, never)
        assert stage.done(config, workdir)
    workdir.close()
    Workdir(tmp_path, config).close()
    config.late.skip = 0.75
    with pytest.raises(UserError, match=r"late.skip was 0.25, is 0.75"):
        Workdir(tmp_path, config)
    assert "examples.corridor" in sys.modules


def test_the_notebook_runs_from_top_to_bottom(capsys):
    """Every code cell, in one namespace, as a kernel would; and the model learns in it."""
    matplotlib.use("Agg")
    notebook = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text(encoding="utf-8"))
    names: dict = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "quickstart.ipynb", "exec"), names)
            assert cell["outputs"]
    assert "dark_room" in capsys.readouterr().out
    part = names["part"].mean((0, 1))
    assert part[-1] > 0.75 > part[4] > part[0]
