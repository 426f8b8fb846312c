"""Linear bandit: 10 arms whose mean rewards are linear in hidden features, trials of 100 pulls.

    python -m experiments.run --config=experiments/configs/linear_bandit.py:cpu --workdir=DIR

Not an experiment of the paper. The source is UCB, which does not know that the arms have features.
smoke: seconds, no result.
cpu: 20,000 training tasks; two minutes on two cores.
"""

from experiments.configs import adversarial_bandit
from experiments.configs.common import choose

# UCB's default is for rewards from 0 to 1; these spread further.
_EXPLORES = {"source.ucb.exploration": 1.0}
PRESETS = {name: {**adversarial_bandit.PRESETS[name], **_EXPLORES} for name in ("smoke", "cpu")}


def get_config(preset: str = "cpu"):
    """The config of a preset."""
    return choose(preset, PRESETS, name="LinearBandit")
