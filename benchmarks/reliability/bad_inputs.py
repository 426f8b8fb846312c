"""Bad inputs, and the error for each: one clear line, before any work, with nothing lost."""

import contextlib
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import traceback
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from absl import logging
from absl.testing import flagsaver

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = "dark_room:smoke"
WORLDS = f"{ROOT}/benchmarks/reliability/worlds.py"
_LATER = {  # the output of the stages, in their order
    "collect": ("histories",),
    "train": ("checkpoints", "metrics.jsonl", "tensorboard"),
    "evaluate": ("evaluation",),
    "report": ("report",),
}
_BOOKKEEPING = ("lock", "made_from.json")  # not results


class Case(NamedTuple):
    """A bad input.

    Attributes:
      name: what is wrong.
      expected: a regular expression that the line must match.
      options: of the command line; --config and --workdir are added if they are missing.
      damage: ``damage(workdir)``, applied to a finished run before the command.
      environment: environment variables of a process that is started for the case; None runs it in
        this process.
      works: whether the input can only be detected during work; then new results may appear, but
        none may change.
      bare: whether ``options`` are the whole command line.
    """

    name: str
    expected: str
    options: tuple[str, ...] = ()
    damage: Callable[[pathlib.Path], Any] | None = None
    environment: dict[str, str] | None = None
    works: bool = False
    bare: bool = False


def _flags() -> list[Case]:
    flag = lambda name, expected, *options: Case(name, expected, options)
    alone = lambda name, expected, *options: Case(name, expected, options, environment={})
    return [
        flag("a preset that does not exist", "no preset .?huge", "--config=dark_room:huge"),
        flag("a config that does not exist", "No such file", "--config=no.py:smoke"),
        alone("a config that is a folder", "config", f"--config={ROOT}/experiments/configs"),
        alone("a config without get_config", "get_config", f"--config={ROOT}/benchmarks/timing.py"),
        flag("a config that is not Python", "constraints", f"--config={ROOT}/constraints.txt"),
        flag("a mistyped key", "stepz", "--config.train.stepz=3"),
        flag("a group instead of a value", "train", "--config.train=3"),
        flag("letters for a number", "train.steps=many", "--config.train.steps=many"),
        flag("a fraction for a count", "train.steps", "--config.train.steps=1.5"),
        flag("nothing for a number", "train.steps", "--config.train.steps="),
        flag("text in a tuple", "source.ppo.hidden", "--config.source.ppo.hidden=('a',)"),
        flag("an unknown flag", "wrkdir", "--wrkdir=x"),
        flag("an unknown stage", "trian", "--stages=collect,trian"),
        flag("no stage", "stages", "--stages="),
        flag("an argument without dashes", "again", "again"),
        flag("a status that is not a number", "stopped_status", "--stopped_status=many"),
        flag("an empty workdir", "workdir", "--workdir="),
        Case("no config", "config", ("--workdir=/tmp/none",), bare=True),
        Case("no workdir", "workdir", (f"--config={CONFIG}",), bare=True),
        flag("training before collecting", "run the stage 'collect' first", "--stages=train"),
        flag("evaluation before training", "run the stage 'train' first", "--stages=evaluate"),
        flag("a report before evaluation", "run the stage 'evaluate' first", "--stages=report"),
    ]  # fmt: skip


# Values of the config, and what the line says beside the key.
_VALUES = {
    "method": ("AC", "choose one of"),
    "tracker": ("mlflow", "choose one of"),
    "seed": ("-1", "give a"),
    "env.name": ("BrightRoom", "is not an environment"),
    "env.kwargs.size": ("0", "size"),
    "env.kwargs.max_steps_in_episode": ("-3", "max_steps_in_episode"),
    "env.tasks": ("math", "give 'module:function'"),
    "tasks.num_heldout": ("9", "lower tasks.num_heldout, tasks.num_validation or"),
    "tasks.num_validation": ("9", "lower tasks.num_heldout, tasks.num_validation or"),
    "tasks.num_train": ("8", "lower tasks.num_heldout, tasks.num_validation or"),
    "tasks.seed": ("-1", "give a"),
    "source.name": ("sarsa", "choose one of"),
    "source.ppo.num_streams": ("0", "give a"),
    "source.ppo.rollout_steps": ("0", "give a"),
    "source.ppo.discount": ("1.5", "give a"),
    "source.ppo.learning_rate": ("nan", "give a"),
    "source.ppo.clip": ("-1.0", "give a"),
    "source.ppo.hidden": ("(32, 0)", "give a"),
    "source.dqn.batch_size": ("0", "give a"),
    "collect.updates": ("0", "give a"),
    "collect.updates_per_chunk": ("7", "not a multiple"),
    "collect.streams": ("9", "the source has 8"),
    "collect.tasks": ("all", "choose one of"),
    "collect.tasks_per_tile": ("0", "give a"),
    "collect.min_improved": ("95.0", "give a"),
    "model.core": ("perceptron", "choose one of"),
    "model.width": ("17", "num_heads"),
    "model.num_heads": ("3", "width"),
    "model.context": ("100000", "longer than the histories"),
    "model.dropout": ("1.5", "give a"),
    "model.attention_dropout": ("-0.5", "give a"),
    "model.mask_probability": ("1.5", "give a"),
    "model.mask": ("tape", "mask"),
    "model.positions": ("learned", "evaluation.mode='fast'|learned"),
    "model.norm": ("middle", "norm"),
    "model.dtype": ("float7", "dtype"),
    "model.attention": ("flash7", "attention"),
    "optimizer.name": ("sgd", "optimizer.name"),
    "optimizer.learning_rate": ("-0.1", "give a"),
    "optimizer.warmup_steps": ("40", "train.steps"),
    "optimizer.b2": ("1.0", "give a"),
    "train.batch_size": ("2147483648", "give a"),
    "train.accumulate": ("3", "train.batch_size"),
    "train.label_smoothing": ("2.0", "give a"),
    "train.keep_begin": ("1.0", "train.keep_"),
    "train.windows": ("tape", "choose one of"),
    "train.log_every": ("0", "give a number from 1"),
    "train.checkpoint_every": ("-5", "give a number from 1"),
    "train.seeds": ("0", "give a"),
    "rl2.clip": ("-1.0", "give a"),
    "evaluation.mode": ("slow", "choose one of"),
    "evaluation.temperature": ("-1.0", "give a"),
    "evaluation.episodes": ("0", "give a"),
    "evaluation.prompt_episodes": ("3", "model.context"),
    "mesh.data": ("3", "devices"),
}  # fmt: skip


def _values() -> list[Case]:
    cases = [
        Case(f"{key}={value}", f"(?s){re.escape(key)}|{said}", (f"--config.{key}={value}",))
        for key, (value, said) in _VALUES.items()
    ]
    pairs = {
        "an expert source where no optimal policy is known": (
            "no optimal policy", "--config=cart_pole:smoke", "--config.source.name=noise",
        ),
        "a bandit source in a room": ("can't be used in", "--config.source.name=ucb"),
        "a demonstrator where no optimal policy is known": (
            "no demonstrator", "--config=cart_pole:smoke", "--config.evaluation.prompt_episodes=1",
        ),
        "dropout with RL²": ("model.dropout", "--config.method=RL2", "--config.rl2.episodes=2",
                         "--config.model.dropout=0.1"),
        "masks with RL²": (
            "model.mask_probability", "--config.method=RL2", "--config.rl2.episodes=2",
            "--config.model.mask_probability=0.1",
        ),
        "endless tasks without a number": (
            "num_train", "--config=cart_pole:smoke", "--config.tasks.num_train=None",
        ),
    }  # fmt: skip
    return cases + [Case(name, said, tuple(options)) for name, (said, *options) in pairs.items()]


def _worlds() -> list[Case]:
    world = lambda name, expected, preset, works=False: Case(
        name, expected, (f"--config={WORLDS}:{preset}",), works=works
    )
    return [
        world("a reward that is NaN", "rewards that are NaN", "nan_reward", True),
        world("an infinite reward", "NaN or infinite", "infinite_reward", True),
        world("a reward that is not declared", "reward_levels", "undeclared_reward", True),
        world("an observation outside its space", "outside", "observation_outside", True),
        world("an observation that is NaN", "observations that are NaN", "nan_observation", True),
        world("an observation of another shape", "observation|shape", "other_shape"),
        world("an observation that is a dict", "Dict|Box or Discrete", "dict_observation"),
        world("an observation that is a tuple", "Tuple|Box or Discrete", "tuple_observation"),
        world("actions without bounds", "finite bounds", "unbounded_actions"),
        world("a thousand actions", "at most 256 actions", "too_many_actions"),
        world("episodes without a limit", "step limit|max_steps_in_episode", "no_limit"),
        world("no tasks", "tasks", "no_tasks"),
        world("tasks() raises", "no map was found", "tasks_raise"),
        world("tasks() gives a list", "task", "tasks_are_a_list"),
        world("tasks that are not a batch", "not a batch", "unbatched_tasks"),
        world("fewer tasks than are held out", "tasks.num_heldout", "too_few_tasks"),
    ]


def _shorten(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _garble(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    for i in range(len(content) // 3, len(content) // 3 + 8):
        content[i % len(content)] ^= 0xFF
    path.write_bytes(content)


def _empty(path: pathlib.Path) -> None:
    path.write_bytes(b"")


def _damaged(
    how: Callable[[pathlib.Path], Any], pattern: str, stage: str
) -> Callable[[pathlib.Path], None]:
    """Damages all files of a pattern, and removes what a stage and those after it have made."""

    def damage(workdir: pathlib.Path) -> None:
        for name in [n for s in list(_LATER)[list(_LATER).index(stage) :] for n in _LATER[s]]:
            path = workdir / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        found = sorted(p for p in workdir.glob(pattern) if p.is_file())
        if not found:
            raise FileNotFoundError(pattern)
        for path in found:
            how(path)

    return damage


def _unlink(path: pathlib.Path) -> None:
    path.unlink()


def _last_line_only(workdir: pathlib.Path) -> None:
    """Removes the last checkpoint, and everything that was made from it."""
    for name in ("evaluation", "report"):
        shutil.rmtree(workdir / name)
    newest = max((workdir / "checkpoints").iterdir(), key=lambda p: int(p.name))
    shutil.rmtree(newest)


def _damages() -> list[Case]:
    train, evaluate, report = ("train", "evaluate", "report")
    case = lambda name, expected, how, pattern, stage, *options: Case(
        name, expected, options, _damaged(how, pattern, stage)
    )
    shard = "histories/*array_record-00000-of-?????"
    arrays, broken = "checkpoints/40/state/d/*", "damaged"
    return [
        case("config.json cut short", broken, _shorten, "config.json", report),
        case("config.json garbled", broken, _garble, "config.json", report),
        case("config.json empty", broken, _empty, "config.json", report),
        case("provenance.json cut short", broken, _shorten, "histories/provenance.json", train),
        case("provenance.json garbled", broken, _garble, "histories/provenance.json", train),
        case("provenance.json empty", broken, _empty, "histories/provenance.json", train),
        case("a shard cut short", "cut short", _shorten, shard, train),
        case("a shard garbled", broken, _garble, shard, train),
        case("a shard missing", "missing", _unlink, shard, train),
        case("features.json garbled", broken, _garble, "histories/features.json", train),
        case("dataset_info.json missing", "missing", _unlink, "histories/dataset_info.json", train),
        case("a checkpoint's array cut short", broken, _shorten, arrays, evaluate),
        case("a checkpoint's array garbled", broken, _garble, arrays, evaluate),
        case("a checkpoint's tree empty", broken, _empty, "checkpoints/40/state/_METADATA",
             evaluate),
        case("a checkpoint's metadata garbled", broken, _garble,
             "checkpoints/40/metadata/metadata", evaluate),
        case("rollouts.npz cut short", broken, _shorten, "evaluation/rollouts.npz", report),
        case("rollouts.npz garbled", broken, _garble, "evaluation/rollouts.npz", report),
        case("rollouts.npz empty", broken, _empty, "evaluation/rollouts.npz", report),
        case("the histories' report cut short", broken, _shorten, "histories/provenance.json",
             report),
        Case("training that has not ended", "training stopped at step 20 of 40",
             ("--stages=evaluate",), _last_line_only),
        Case("another model than is trained", "made with another config .*model.width",
             ("--config.model.width=32",), lambda workdir: None),
        Case("another seed than collected", "made with another config .*seed",
             ("--config.seed=5",), lambda workdir: None),
        Case("another environment than was collected in", "made with another config .*env.name",
             ("--config=dark_key_to_door:smoke",), lambda workdir: None),
    ]  # fmt: skip


def _file_instead(name: str) -> Callable[[pathlib.Path], None]:
    def damage(workdir: pathlib.Path) -> None:
        shutil.rmtree(workdir / name)
        (workdir / name).write_text("not a folder")

    return damage


def _folders() -> list[Case]:
    return [
        Case("a workdir that can't be created", "give another folder", ("--workdir=/proc/x/run",)),
        Case("a workdir that is a file", "give another", (f"--workdir={ROOT}/README.md",)),
        Case("a workdir below a file", "give another", (f"--workdir={ROOT}/README.md/run",)),
        Case("a workdir in a store without its client", "can't be used|gs://|install",
             ("--workdir=nope://bucket/run",)),
        Case("a workdir that another process uses", "in use by process", damage=_in_use),
        *(
            Case(f"a file instead of {name}/", f"{name} is not a folder", (), _file_instead(name))
            for name in ("histories", "checkpoints", "evaluation", "report")
        ),
    ]  # fmt: skip


_HELD: list[Any] = []  # locks of another "process": a second open file is as good


def _in_use(workdir: pathlib.Path) -> None:
    import fcntl

    file = open(workdir / "lock", "w")
    file.write("1 on elsewhere")
    file.flush()
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    _HELD.append(file)


def _surroundings() -> list[Case]:
    case = lambda name, expected, **environment: Case(name, expected, (), None, environment)
    return [
        case("an address without a number of processes", "JAX_NUM_PROCESSES",
             JAX_COORDINATOR_ADDRESS="127.0.0.1:1"),
        case("a number of processes that is not a number", "JAX_NUM_PROCESSES",
             JAX_COORDINATOR_ADDRESS="127.0.0.1:1", JAX_NUM_PROCESSES="two", JAX_PROCESS_ID="0"),
        case("a process index that is out of range", "JAX_PROCESS_ID|process",
             JAX_COORDINATOR_ADDRESS="127.0.0.1:1", JAX_NUM_PROCESSES="2", JAX_PROCESS_ID="5"),
        case("a timeout that is not a number", "AD_JAX_TIMEOUT",
             JAX_COORDINATOR_ADDRESS="127.0.0.1:1", JAX_NUM_PROCESSES="2", JAX_PROCESS_ID="0",
             AD_JAX_TIMEOUT="soon"),
        case("a process that waits for another", "waited 3 s",
             JAX_COORDINATOR_ADDRESS="127.0.0.1:29999", JAX_NUM_PROCESSES="2", JAX_PROCESS_ID="0",
             AD_JAX_TIMEOUT="3"),
        case("JAX_PLATFORMS=cuda without a GPU", "cuda|JAX_PLATFORMS", JAX_PLATFORMS="cuda"),
        case("JAX_PLATFORMS=abacus", "abacus|JAX_PLATFORMS", JAX_PLATFORMS="abacus"),
        case("three devices for a batch of 16", "3 devices|divide", JAX_NUM_CPU_DEVICES="3"),
        case("jit is disabled", "JAX_DISABLE_JIT|jit", JAX_DISABLE_JIT="1"),
        case("64 bits", "JAX_ENABLE_X64", JAX_ENABLE_X64="1"),
        case("strict types", "JAX_NUMPY_DTYPE_PROMOTION", JAX_NUMPY_DTYPE_PROMOTION="strict"),
        case("strict shapes", "JAX_NUMPY_RANK_PROMOTION", JAX_NUMPY_RANK_PROMOTION="raise"),
        case("no transfers", "JAX_TRANSFER_GUARD", JAX_TRANSFER_GUARD="disallow"),
    ]  # fmt: skip


GROUPS: dict[str, list[Case]] = {
    "Command line": _flags(),
    "Settings": _values(),
    "User-defined environments": _worlds(),
    "Damaged or unsuitable files": _damages(),
    "Folders": _folders(),
    "Environment variables": _surroundings(),
}


def try_case(case: Case, finished: pathlib.Path, scratch: pathlib.Path) -> dict[str, Any]:
    """Gives the program a bad input.

    Args:
      case: the input.
      finished: workdir of a finished run of ``CONFIG``.
      scratch: an empty folder.

    Returns:
      JSON values: name, said (what the program said last), and faults, empty if all is well.
    """
    workdir = scratch / "run"
    if case.damage:
        shutil.copytree(finished, workdir)
        case.damage(workdir)
    options = list(case.options)
    if not case.bare:
        given = {option.partition("=")[0] for option in options}
        needed = {"--config": CONFIG, "--workdir": workdir}
        options = [*(f"{k}={v}" for k, v in needed.items() if k not in given), *options]
    before = _snapshot(scratch)
    run = _in_this_process if case.environment is None else _in_a_process
    status, output, error = run(options, scratch, case.environment)
    while _HELD:
        _HELD.pop().close()
    after = _snapshot(scratch)
    lines = [line for line in error.replace("\r", "\n").splitlines() if line.strip()]
    faults = []
    if status in (0, None):
        faults.append("it exits with status 0")
    if len(lines) != 1 or not lines[0].startswith("error: "):
        faults.append(f"it says {len(lines)} lines")
    said = lines[-1] if lines else ""
    if not re.search(case.expected, said):
        faults.append(f"the line is not as expected: {case.expected}")
    if changed := [name for name in before if before[name] != after.get(name)]:
        faults.append(f"changed: {changed}")
    new = {n for n in after.keys() - before.keys() if n != "run/config.json"}  # not work
    if new and not case.works:
        faults.append(f"new: {sorted(new)[:5]}")
    silent = re.compile(r"ad_jax \d.*|\w+: already done, skipped|\s*")
    printed = [line for line in output.splitlines() if not silent.fullmatch(line)]
    if printed and not case.works:
        faults.append(f"it also prints {printed[0][:100]!r}")
    for long, short in ((workdir, "DIR"), (scratch, "."), (ROOT, "…")):
        said = said.replace(str(long), short)
    return {"name": case.name, "said": said, "faults": faults}


def _in_this_process(
    options: list[str], folder: pathlib.Path, environment: None
) -> tuple[Any, str, str]:
    del environment
    from experiments import run

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    verbosity, argv, before = logging.get_verbosity(), sys.argv, os.getcwd()
    out, err = io.StringIO(), io.StringIO()
    status: Any = 0
    try:
        sys.argv = ["run", *options]
        os.chdir(folder)
        with (
            flagsaver.flagsaver(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            run.entry_point()
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        status = 1
        err.write(traceback.format_exc())
    finally:
        sys.argv = argv
        os.chdir(before)
        logging.set_verbosity(verbosity)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if isinstance(status, str):
        err.write(status)
        status = 1
    said = "".join(line for line in err.getvalue().splitlines(True) if "%|" not in line)
    return status, out.getvalue(), said


def _in_a_process(
    options: list[str], folder: pathlib.Path, environment: dict[str, str]
) -> tuple[int, str, str]:
    variables = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environment}
    ended = subprocess.run(
        [sys.executable, "-m", "experiments.run", *options], cwd=folder, text=True, timeout=300,
        env={**os.environ, **variables}, capture_output=True,
    )  # fmt: skip
    return ended.returncode, ended.stdout, ended.stderr


def _snapshot(folder: pathlib.Path) -> dict[str, int]:
    """Checksums of all files, without the lock and the record of the stages' inputs."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name not in _BOOKKEEPING)
    return {str(p.relative_to(folder)): zlib.crc32(p.read_bytes()) for p in files}


def finished_run(folder: pathlib.Path) -> pathlib.Path:
    """A finished run of ``CONFIG``, made once."""
    workdir = folder / "finished"
    if not (workdir / "report" / "summary.json").exists():
        options = [f"--config={CONFIG}", f"--workdir={workdir}"]
        status, _, error = _in_a_process(options, folder, {})
        if status:
            raise RuntimeError(error)
    return workdir


def try_all(folder: pathlib.Path, only: str = "") -> dict[str, list[dict[str, Any]]]:
    """Tries all bad inputs; returns the results, by group.

    Args:
      folder: for the workdirs.
      only: a regular expression; other names are left out.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    finished = finished_run(folder)
    for group, cases in GROUPS.items():
        found[group] = []
        for case in cases:
            if not re.search(only, case.name):
                continue
            scratch = folder / "case"
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            result = try_case(case, finished, scratch)
            found[group].append(result)
            if result["faults"]:
                print(json.dumps(result, ensure_ascii=False), flush=True)
    return found


if __name__ == "__main__":
    where, output = map(pathlib.Path, sys.argv[1:])
    output.write_text(json.dumps(try_all(where), ensure_ascii=False))
