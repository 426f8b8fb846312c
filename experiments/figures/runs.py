"""The runs that figures need, split into jobs that several figures can share.

A job is one stage of a run. Its folder is named by everything that the stage depends on, so figures
that need the same histories, model or evaluation share it.
"""

import functools
import hashlib
import importlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from ad_jax import build
from ad_jax.config import OLD_VALUES, RENAMED, defaults, flat
from ad_jax.errors import UserError
from ad_jax.evaluation import bounds
from ad_jax.paths import Path
from ad_jax.registries import short
from data_pipelines.files import read_json
from data_pipelines.writer import PROVENANCE
from experiments import pipeline
from experiments.runtime.workdir import READ_BY, WATCHING, Folders, Workdir
from experiments.stages import evaluate

PRESETS = ("smoke", "cpu", "paper")
STAGES = ("collect", "train", "evaluate")


class Run(NamedTuple):
    """A model to train and evaluate or, with ``stage`` "collect", a source to watch.

    Attributes:
      config: of its first training seed; ``train.seeds`` says how many are trained at once.
      num_train: number of tasks to collect, of which the config's ``tasks.num_train`` are trained
        on; None collects only those.
      stage: the last stage.
    """

    config: ml_collections.ConfigDict
    num_train: int | None = None
    stage: str = "evaluate"


class Job(NamedTuple):
    """One stage in a folder of its own.

    Attributes:
      stage: its name.
      config: what it reads.
      folder: below the root.
      histories, model: folders of the jobs whose histories and model it reads.
    """

    stage: str
    config: ml_collections.ConfigDict
    folder: str
    histories: str | None = None
    model: str | None = None

    def workdir(self, root: Path) -> Workdir:
        """Opens and locks its folder; raises a UserError if that is impossible."""
        return Workdir(root / self.folder, self.config, **self._read(root))

    def done(self, root: Path) -> bool:
        """Whether its output is complete, and made from the inputs that are there now."""
        return pipeline.is_done(self.stage, self.config, self.folders(root))

    def folders(self, root: Path) -> Folders:
        """Where its results are, not locked."""
        return Folders(root / self.folder, **self._read(root))

    def _read(self, root: Path) -> dict[str, Path | None]:
        return {
            "histories": root / self.histories / "histories" if self.histories else None,
            "checkpoints": root / self.model / "checkpoints" if self.model else None,
        }

    @property
    def work(self) -> float:
        """The amount of work: environment steps, or transitions to train on."""
        c, world = self.config, build.world(self.config)
        if self.stage == "collect":
            source = build.source(c, world.env)
            tasks = len(getattr(world, c.collect.tasks))
            return tasks * c.collect.updates * source.num_streams * source.steps_per_update
        if self.stage == "evaluate":
            own = c.evaluation
            rollouts = (len(world.heldout) + own.train_tasks) * own.rollouts
            steps = (own.prompt_episodes + own.episodes) * episode_steps(c)
            return c.train.seeds * rollouts * steps
        return c.train.seeds * c.train.steps * build.method(c, world).transitions


def config_of(environment: str, preset: str) -> ml_collections.ConfigDict:
    """A preset of an environment."""
    return importlib.import_module(f"experiments.configs.{environment}").get_config(preset)


def changed(
    config: ml_collections.ConfigDict, changes: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """A copy of a config with other values by dotted key; one for a group is a dict."""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(flat(changes))
    return config


def episode_steps(config: ml_collections.ConfigDict) -> int:
    """The length of an episode."""
    return build.world(config).env.max_steps_in_episode


def jobs(run: Run, seeds: int) -> Iterator[Job]:
    """The jobs of a run in the order in which they can be done.

    All training seeds share the histories; each is trained and evaluated.
    """
    collected = run.config
    if run.num_train is not None:
        collected = changed(collected, {"tasks.num_train": run.num_train})
    histories = None
    if build.reads_windows(run.config):
        histories = _folder("collect", collected, collected.source.name)
        yield Job("collect", collected, histories)
    if run.stage == "collect":
        return
    at_once = run.config.train.seeds
    for seed in range(0, seeds, at_once):
        some = {"seed": seed, "train.seeds": min(at_once, seeds - seed)}
        config = changed(run.config, some)
        name = f"{config.method}-{config.model.core}"
        model = _folder("train", config, name, histories)
        yield Job("train", config, model, histories)
        yield Job("evaluate", config, _folder("evaluate", config, name, model), histories, model)


def _folder(stage: str, config: ml_collections.ConfigDict, name: str, *others: str | None) -> str:
    """A folder name that is the same for all configs with the same output, in later versions too.

    It is made from the values that differ from the defaults, so a new key changes no name.
    """
    until = STAGES[: STAGES.index(stage) + 1]

    def read(group: str, key: str = "", *_: str) -> bool:
        if group == "source":
            return build.reads_windows(config) and key in ("name", short(config.source.name))
        if group in build.METHOD_GROUPS:
            return group == build.method_spec(config).group and "train" in until
        return group != "preset" and READ_BY.get(group, "collect") in until

    usual = flat(json.loads(defaults().to_json())) | OLD_VALUES
    first_names = {new: old for old, new in RENAMED.items()}
    values = {
        first_names.get(key, key): value
        for key, value in flat(json.loads(config.to_json())).items()
        if key not in WATCHING and read(*key.split(".")) and usual.get(key) != value
    }
    text = json.dumps([values, others], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return f"{stage}/{config.env.name}-{name}-{config.seed}-{digest}"


class Results:
    """The evaluation results of a run, over its training seeds.

    Attributes:
      returns, prompt_returns: float [seed, task, rollout, episode].
      group: str [task], as in ``evaluate.EvaluationTasks``.
      optimum, chance: float [task], returns of the optimal and of the random policy; the optimum
        is 1 if it is not known.
      optimum_is_known: whether it is.
      episode_steps: length of an episode.
      config: of the first seed, and of those trained together with it.
      metrics: for each seed, its lines of metrics.jsonl.
      checkpoints: folders of checkpoints, each with one seed or several.
      source: the provenance of the histories; None if there are none.
      costs: seconds of each stage, and the device of the last one.
    """

    def __init__(self, root: Path, run: Run, seeds: int):
        self.config, parts, self.source = run.config, [], None
        self.metrics: list[list[dict[str, float]]] = []
        self.checkpoints = []
        self.costs: dict[str, Any] = {}
        for job in jobs(run, seeds):
            if job.stage == "collect":
                path = root / job.folder / "histories" / PROVENANCE
                self.source = read_json(path, "collect again")
                self.costs["device"] = self.source["device"]
                self.costs["collect"] = self.source["seconds"]
            elif job.stage == "train":
                if not self.checkpoints:
                    self.config = job.config
                text = (root / job.folder / "metrics.jsonl").read_text()
                self.checkpoints.append(root / job.folder / "checkpoints")
                lines = [json.loads(line) for line in text.splitlines()]
                for seed in sorted({line["seed"] for line in lines}):
                    self.metrics.append([line for line in lines if line["seed"] == seed])
            else:
                parts.append(evaluate.load_results(root / job.folder / "evaluation"))
        self.episode_steps = episode_steps(run.config)
        self.group, best, self.chance = _bounds(_world_key(run.config))
        self.optimum_is_known = best is not None
        self.optimum = np.ones(len(self.group)) if best is None else best
        if run.stage == "collect":
            return
        self.returns = np.concatenate([p["returns"] for p in parts])
        self.prompt_returns = np.concatenate([p["prompt_returns"] for p in parts])
        self._mean_rewards = [p["mean_reward"] for p in parts]
        self.costs["device"] = str(parts[0]["device"])
        self.costs["train"] = [float(p["train_seconds"]) for p in parts]
        self.costs["evaluate"] = [float(p["seconds"]) for p in parts]

    def normalized(self, group: str = evaluate.HELDOUT) -> np.ndarray:
        """(return - random) / (optimal - random) of a group, [seed, task, rollout, episode].

        Tasks whose optimum is not above the random return are left out.
        """
        return self._normalized(self.returns, group, 1)

    def normalized_by_step(self, group: str = evaluate.HELDOUT) -> np.ndarray:
        """Normalised rewards of each step, float [seed, task, 1, time], means over rollouts.

        0 and 1 are the mean rewards per step of the random and of the optimal policy.

        Raises:
          UserError: the evaluations are of an older version, with means over models.
        """
        reward = np.concatenate([x.reshape(-1, *x.shape[-2:]) for x in self._mean_rewards])
        if len(reward) != len(self.returns):
            raise UserError(
                "evaluations are from an older version, and have rewards averaged over models: "
                "give another workdir"
            )
        return self._normalized(reward[:, :, None], group, self.episode_steps)

    def _normalized(self, values: np.ndarray, group: str, parts: int) -> np.ndarray:
        """Normalises values [seed, task, rollout, ...], each one of ``parts`` parts of a return."""
        chosen = (self.group == group) & (self.optimum > self.chance)
        low, high = (x[chosen, None, None] / parts for x in (self.chance, self.optimum))
        return (values[:, chosen] - low) / (high - low)

    def of_group(self, group: str = evaluate.HELDOUT) -> np.ndarray:
        """Returns [seed, task, rollout, episode] of a group."""
        return self.returns[:, self.group == group]


def _world_key(config: ml_collections.ConfigDict) -> str:
    kept = {"env": config.env, "tasks": config.tasks, "train_tasks": config.evaluation.train_tasks}
    return ml_collections.ConfigDict(kept).to_json(sort_keys=True)


@functools.cache
def _bounds(key: str) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Groups of the tasks of an evaluation, their optimal returns if known, and random ones."""
    kept = ml_collections.ConfigDict(json.loads(key))
    world = build.world(kept)
    tasks = evaluate.evaluation_tasks(world, evaluate.HELDOUT, kept.train_tasks)
    best = bounds.optimal_returns(world.env, tasks.params)
    return tasks.group, best, bounds.random_returns(world.env, tasks.params)
