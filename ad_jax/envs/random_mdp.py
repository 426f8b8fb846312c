"""Random Markov decision processes: in every task, states and actions mean something else.

A task is only a seed. No table is stored: where an action leads is computed from the seed each time
the action is taken. So there are two billion tasks, of any size, and a model can be trained on as
many of them as needed. What it knows about a new task, it must then have learnt in context. OmniRL
(Wang et al., arXiv:2502.02869) generates tabular tasks in a similar way.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from ad_jax.envs.arguments import at_least
from ad_jax.envs.tasks import TaskDistribution


@struct.dataclass
class EnvParams(environment.EnvParams):
    """The task: ``seed`` of all that is drawn, int32."""

    seed: jax.Array = struct.field(default_factory=lambda: jnp.zeros((), jnp.int32))
    max_steps_in_episode: int = 20


@struct.dataclass
class EnvState(environment.EnvState):
    """The ``state``, int32 from 0 on, and ``time``, the steps made in this episode."""

    state: jax.Array
    time: jax.Array


class RandomMDP(environment.Environment):
    """Every action leads from every state to a fixed one, drawn uniformly; one state pays 1.

    Episodes start in state 0 and have a fixed length. The paying state is never state 0, and gives
    its reward each time the agent enters it.

    Args:
      num_states: number of states, two or more.
      num_actions: number of actions, two or more.
      max_steps_in_episode: steps per episode.
    """

    version = "1.0.0"  # changes whenever the same actions would lead to another history
    num_stages = 1
    reward_levels = (0.0, 1.0)

    def __init__(self, num_states: int = 16, num_actions: int = 4, max_steps_in_episode: int = 20):
        super().__init__()
        at_least(2, num_states=num_states, num_actions=num_actions)
        at_least(1, max_steps_in_episode=max_steps_in_episode)
        self.num_states, self._num_actions = num_states, num_actions
        self.max_steps_in_episode = max_steps_in_episode

    @property
    def default_params(self) -> EnvParams:
        """The task of seed 0."""
        return EnvParams(max_steps_in_episode=jnp.int32(self.max_steps_in_episode))

    def step_env(self, key, state, action, params):
        """Goes where the action leads. See gymnax's ``Environment.step_env``."""
        del key
        drawn_by = jax.random.fold_in(_key(params), 1 + state.state * self.num_actions + action)
        following = jax.random.randint(drawn_by, (), 0, self.num_states, jnp.int32)
        reward = (following == self.paying_state(params)).astype(jnp.float32)
        state = EnvState(state=following, time=state.time + 1)
        return following, state, reward, jnp.zeros((), bool), {}

    def reset_env(self, key, params):
        """Starts an episode in state 0. See gymnax's ``Environment.reset_env``."""
        del key, params
        zero = jnp.zeros((), jnp.int32)
        return zero, EnvState(state=zero, time=zero)

    def observe(self, key, state, action, params):
        """The state, int32."""
        del key, action, params
        return state.state

    def is_terminated(self, state, params):
        """Never: only the time limit ends an episode."""
        del state, params
        return jnp.zeros((), bool)

    def paying_state(self, params: EnvParams) -> jax.Array:
        """The state that pays in a task; int32."""
        drawn_by = jax.random.fold_in(_key(params), 0)
        return jax.random.randint(drawn_by, (), 1, self.num_states, jnp.int32)

    @property
    def num_actions(self) -> int:
        return self._num_actions

    def action_space(self, params=None):
        del params
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params=None):
        del params
        return spaces.Discrete(self.num_states)

    def state_space(self, params):
        return spaces.Dict({
            "state": self.observation_space(params),
            "time": spaces.Discrete(self.max_steps_in_episode + 1),
        })  # fmt: skip

    # What exact dynamic programming needs: all states but for the time, and where episodes start.

    def all_states(self) -> EnvState:
        """All states, as a batched one."""
        state = np.arange(self.num_states, dtype=np.int32)
        return EnvState(state=state, time=np.zeros_like(state))

    def state_index(self, state: EnvState) -> jax.Array:
        """Index of a state in ``all_states``, whatever its time; int32."""
        return state.state

    def start_distribution(self) -> np.ndarray:
        """Probability that an episode starts in each of ``all_states``; float32 [states]."""
        return (np.arange(self.num_states) == 0).astype(np.float32)

    def known_state(self, observation: jax.Array, stage: jax.Array, time: jax.Array) -> EnvState:
        """The state that an observation shows."""
        del stage
        return EnvState(state=observation, time=time)

    def tasks(self) -> TaskDistribution:
        """One task for each id, which is its seed; there are too many to enumerate."""

        def params(ids: np.ndarray) -> EnvParams:
            ids = jnp.asarray(ids, jnp.int32)
            limit = jnp.full(ids.shape, self.max_steps_in_episode, jnp.int32)
            return EnvParams(seed=ids, max_steps_in_episode=limit)

        return TaskDistribution(params=params, num_tasks=None)


def _key(params: EnvParams) -> jax.Array:
    return jax.random.key(params.seed)
