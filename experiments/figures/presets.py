"""The runs that figures have in common, for each environment and preset."""

from collections.abc import Mapping
from typing import Any

from experiments.figures.runs import Run, changed, config_of, episode_steps

SEEDS = {"smoke": 1, "cpu": 3, "paper": 5}  # of training, unless --seeds says otherwise
BANDIT, KEY_TO_DOOR, RANDOM_MDP = "adversarial_bandit", "dark_key_to_door", "random_mdp"
BANDITS = (BANDIT, "linear_bandit")
OF_THE_PAPER = (BANDIT, "dark_room", "dark_room_hard", KEY_TO_DOOR, "watermaze")
ENVIRONMENTS = (*OF_THE_PAPER, "linear_bandit", RANDOM_MDP, "point_robot", "xland")

# Changes that the figures make to an environment's own preset.
_SMOKE = {
    "train.steps": 4,
    "train.log_every": 2,
    "train.checkpoint_every": 4,
    "train.batch_size": 8,
    "optimizer.warmup_steps": 1,
    "evaluation.train_tasks": 2,
}
CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "smoke": {name: _SMOKE for name in ENVIRONMENTS},
    "cpu": {
        "dark_room": {"evaluation.train_tasks": 16, "evaluation.episodes": 200},
        "dark_room_hard": {"evaluation.train_tasks": 16},
        KEY_TO_DOOR: {
            "evaluation.train_tasks": 16,
            "evaluation.episodes": 100,
            "evaluation.rollouts": 4,
        },
    },
    # Such small models do not fill an accelerator, so all seeds are trained at once.
    "paper": {
        name: {"train.seeds": SEEDS["paper"]}
        for name in (*OF_THE_PAPER, RANDOM_MDP)
        if name != "watermaze"
    },
}
# For comparisons of many models that are not in the paper.
BRIEF: dict[str, dict[str, Any]] = {"smoke": {}, "cpu": {"train.steps": 1000}, "paper": {}}
# Tasks of Key-to-Door to collect: figure 12 needs more than the other figures train on.
COLLECTED = {"smoke": 40, "cpu": 512, "paper": 2424}

# RL² as in Dark Room's preset, but for the trials, the discount and the number of updates.
_TRIALS = {"rl2.num_trials": 4, "rl2.num_minibatches": 1, "rl2.episodes": 2}
_UPDATES = {
    "train.steps": 2,
    "train.log_every": 1,
    "train.checkpoint_every": 2,
    "optimizer.warmup_steps": 1,
}
RL2: dict[str, dict[str, dict[str, Any]]] = {
    "smoke": {
        **{name: {**_TRIALS, **_UPDATES} for name in ENVIRONMENTS},
        **{name: {**_TRIALS, **_UPDATES, "rl2.episodes": 1} for name in BANDITS},
    },
    "cpu": {
        **{
            name: {"rl2.episodes": 1, "rl2.discount": 0.95, "train.steps": 1500} for name in BANDITS
        },
        "dark_room_hard": {"train.steps": 900},
        KEY_TO_DOOR: {"rl2.discount": 0.99, "rl2.episodes": 10, "train.steps": 600},
        # RL² acts in training and would have to render every frame, so it sees poses instead.
        "watermaze": {
            "env.name": "PoseWatermaze",
            "rl2.discount": 0.95,
            "rl2.episodes": 10,
            "train.steps": 1500,
        },
        "xland": {"rl2.discount": 0.97, "rl2.episodes": 10},
    },
    "paper": {
        BANDIT: {"rl2.episodes": 1, "rl2.discount": 0.99, "train.steps": 40_000},
        "dark_room": {"train.steps": 40_000, "rl2.episodes": 10},
        "dark_room_hard": {"train.steps": 40_000, "rl2.episodes": 10},
        KEY_TO_DOOR: {"train.steps": 40_000, "rl2.episodes": 10, "rl2.discount": 0.95},
        "watermaze": {"train.steps": 40_000, "rl2.discount": 0.95, "rl2.episodes": 30},
    },
}


def ad(environment: str, preset: str, changes: Mapping[str, Any] | None = None) -> Run:
    """Algorithm distillation; ``changes`` are config values by dotted key."""
    config = changed(config_of(environment, preset), CHANGES[preset].get(environment, {}))
    num_train = COLLECTED[preset] if environment == KEY_TO_DOOR else None
    return Run(changed(config, changes or {}), num_train)


def ed(environment: str, preset: str) -> Run:
    """Expert distillation, on the last tenth of the histories; for bandits, on the best arm."""
    if environment in BANDITS:  # whose source never becomes an expert: a trial is all it has
        return noise_free_ed(environment, preset)
    return ad(environment, preset, {"method": "ED", "train.keep_begin": 0.9, "train.keep_every": 1})


def noise(environment: str, preset: str, changes: Mapping[str, Any] | None = None) -> Run:
    """AD^ε: AD on histories of an expert whose noise fades, as many and as long as the source's."""
    config = ad(environment, preset).config
    own = config.source[config.source.name]
    rollout = own.get("rollout_steps") or episode_steps(config)
    fading = {
        "source.name": "noise",
        "source.noise.num_streams": config.collect.streams or own.get("num_streams", 1),
        "source.noise.rollout_steps": rollout,
        "source.noise.epsilon_steps": rollout * config.collect.updates,
        "collect.min_improved": 0.0,  # a schedule need not be checked
    }
    return ad(environment, preset, fading | dict(changes or {}))


def noise_free_ed(environment: str, preset: str) -> Run:
    """ED on the optimal policy, with as many and as long histories as the source's."""
    expert = {"method": "ED", "source.noise.epsilon_start": 0.0}
    return noise(environment, preset, {**expert, "train.keep_every": 1})


def rl2(environment: str, preset: str, core: str = "lstm") -> Run:
    """RL² with an LSTM or a transformer; it collects nothing."""
    own = config_of("dark_room", "rl2")
    learner = {
        "method": "RL2",
        "rl2": own.rl2.to_dict(),
        "optimizer": own.optimizer.to_dict(),
        "train": own.train.to_dict(),
        "model": {**own.model.to_dict(), "core": core, "num_layers": 2, "num_heads": 2},
        "evaluation.mode": "fast",
    }
    config = ad(environment, preset).config
    encoder = {"model.image_encoder": config.model.image_encoder}
    # Rewards are rarer than in Dark Room, so its entropy bonus would outweigh them.
    rare = {} if environment == "dark_room" else {"rl2.entropy_cost": 0.02}
    config = changed(config, learner | encoder | rare | RL2[preset].get(environment, {}))
    # Tested in trials as long as those in training; the last episode is taken as its asymptote.
    steps = config.rl2.episodes * episode_steps(config)
    limits = {"model.context": steps, "evaluation.episodes": config.rl2.episodes}
    return Run(changed(config, limits))


def source(environment: str, preset: str, changes: Mapping[str, Any] | None = None) -> Run:
    """The source learner, from scratch, on the held-out tasks."""
    watched = {"collect.tasks": "heldout", "collect.min_improved": 0.0}
    return Run(ad(environment, preset, {**(changes or {}), **watched}).config, stage="collect")
