"""What all cores have in common: parameter names, causality, sharding, steps on devices."""

import re

import jax
import numpy as np
import pytest
from gymnax.environments import spaces

from ad_jax.actions import Actions
from ad_jax.distributed import sharding
from ad_jax.envs import registry
from ad_jax.evaluation.agents import MODES, model_agent
from ad_jax.models import CORES
from ad_jax.models.base import SequenceModel
from ad_jax.rollout import make_rollouts
from tests.ad_jax.models.test_transformer import GRID, spread, window

SMALL = {
    "transformer": dict(width=8, num_layers=2, num_heads=2, mlp_width=8, context=12),
    "lstm": dict(width=8, hidden=8, mlp_width=8, context=12),
    "gru": dict(width=8, hidden=8, mlp_width=8, context=12),
    "rglru": dict(width=8, num_layers=2, mlp_width=8, context=12),
}


def make(core, space=GRID):
    return SequenceModel(CORES[core](**SMALL[core]), space, Actions.discrete(5))


def test_every_core_is_tried_here():
    assert SMALL.keys() == CORES.keys()


def test_parameters_keep_the_names_that_checkpoints_have():
    """Change them only together with a way to read older checkpoints."""
    params = make("transformer").init(jax.random.key(0), *window())["params"]
    block = {"qkv", "out", "up", "down", "norm_attention", "norm_mlp"}
    assert params.keys() == {"embed", "blocks_0", "blocks_1", "norm", "head"}
    assert params["blocks_1"].keys() == block
    params = make("lstm").init(jax.random.key(0), *window())["params"]
    assert params.keys() == {"embed", "layers_0", "mlp_0", "mlp_1", "head"}


@pytest.mark.parametrize("core", CORES)
def test_causality_by_gradients(core):
    """The logits at a step depend on that step and earlier ones, and on no later one."""
    model = make(core, spaces.Box(0.0, 8.0, (2,)))
    observation, *rest = window(batch=1)
    observation = observation.astype(np.float32)
    params = spread(model.init(jax.random.key(0), observation, *rest))
    out = lambda x: model.apply(params, x, *rest)[0].sum(-1)
    influence = np.abs(jax.jit(jax.jacobian(out))(observation)[:, 0])
    influence = influence.sum(-1)  # [output step, input step]
    later = np.triu(np.ones((12, 12), bool), 1)
    assert np.all(influence[later] == 0) and np.all(influence[~later] > 0)


@pytest.mark.parametrize("core", CORES)
def test_every_parameter_has_a_rule_and_every_rule_a_parameter(core):
    model = make(core)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *window()))
    mesh = sharding.make_mesh(data=1, fsdp=4)
    placed = sharding.state_shardings(mesh, shapes, model.config.rules)
    over_devices = [s for s in jax.tree.leaves(placed) if "fsdp" in str(s.spec)]
    assert len(over_devices) > 5


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("core", CORES)
def test_acting_on_several_devices_sends_nothing_around(core, mode):
    """Parameters are replicated and tasks are spread over the devices, so steps are local."""
    env, tasks = registry.make("DarkRoom", size=3, max_steps_in_episode=4)
    model = make(core, env.observation_space())
    mesh = sharding.make_mesh(data=2, fsdp=2)
    params = sharding.put(
        jax.device_get(model.init(jax.random.key(0), *window())), sharding.replicated(mesh)
    )
    ids = np.arange(4, dtype=np.int32)
    init, advance = make_rollouts(env, lambda _: model_agent(model, params, mode=mode))
    by_task = sharding.task_sharding(mesh)
    state = jax.jit(
        lambda: init(jax.random.key(0), ids, tasks.params(ids), 2), out_shardings=by_task
    )()
    run = jax.jit(sharding.on_mesh(mesh, lambda state: advance(state, 6)), out_shardings=by_task)
    program = run.lower(state).compile().as_text()
    assert not re.findall(r"all-reduce|all-gather|all-to-all|collective-permute", program)
