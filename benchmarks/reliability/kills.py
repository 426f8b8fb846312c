"""Kills a small run again and again until it finishes; compares it with an uninterrupted run.

A trial is one workdir: the same command is started, killed, and started again. Each kill is aimed
at a phase, at a moment drawn uniformly from the duration of that phase. The kills of a trial are
aimed at later and later phases, so a trial needs one start per kill, and one to finish.
"""

import concurrent.futures
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from benchmarks.reliability.results import contents, differences

ROOT = pathlib.Path(__file__).parents[2]
PHASES = ("start", "collect", "train", "checkpoint", "evaluate", "report")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
LAYOUTS = (1, 1, 2)  # processes of a trial, in turns
STEPS = 45
# Four shards; rows of metrics and checkpoints at different steps; four calls of the evaluation.
OPTIONS = (
    "--config=experiments/configs/dark_room.py:smoke",
    "--config.collect.tasks_per_tile=2",
    "--config.collect.updates_per_chunk=10",
    f"--config.train.steps={STEPS}",
    "--config.train.checkpoint_every=7",
    "--config.evaluation.episodes=20",
)
# The output that shows that a phase is over.
OUTPUT = {
    "collect": "histories/provenance.json",
    "train": f"checkpoints/{STEPS}",
    "checkpoint": f"checkpoints/{STEPS}",
    "evaluate": "evaluation/rollouts.npz",
    "report": "report/summary.json",
}
# Seconds of each phase, as last seen, by folder and number of processes.
_LATEST: dict[tuple[pathlib.Path, int], dict[str, float]] = {}
_BEGUN = 400.0  # seconds within which a phase must begin,
_ENDED = 200.0  # and within which processes must end after a signal
_TIMEOUT = 40  # AD_JAX_TIMEOUT, in seconds: until a process notices that another one is dead


class Attempt:
    """One start of the command, in one process or in several; ``marks`` come from the first.

    Args:
      workdir: of the run.
      count: number of processes.
      cache: a folder for compiled programs and bytecode.
    """

    def __init__(self, workdir: pathlib.Path, count: int, cache: pathlib.Path):
        self.marks = [(time.monotonic(), "begin start")]
        self.log = workdir.with_suffix(".log")
        self._workdir = workdir
        self._changed = threading.Condition()
        self._is_over = False
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(cache / "bytecode"),
            "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache / "programs"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        }  # fmt: skip
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        if count > 1:
            environment |= {
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{_free_port()}",
                "JAX_NUM_PROCESSES": str(count), "JAX_NUM_CPU_DEVICES": "1",
                "AD_JAX_TIMEOUT": str(_TIMEOUT),
            }  # fmt: skip
        read, write = os.pipe()
        self.processes = []
        with open(self.log, "w") as log, open(os.devnull, "w") as nowhere:
            for number in range(count):
                marks = nowhere.fileno() if number else write
                command = [sys.executable, "-m", "benchmarks.reliability.child"]
                own = {"AD_JAX_MARKS": str(marks)}
                if count > 1:
                    own["JAX_PROCESS_ID"] = str(number)
                process = subprocess.Popen(
                    [*command, *OPTIONS, f"--workdir={workdir}"], cwd=ROOT, pass_fds=[marks],
                    env=environment | own, stdout=log, stderr=subprocess.STDOUT,
                )  # fmt: skip
                self.processes.append(process)
        os.close(write)
        self._reader = threading.Thread(target=self._read, args=[read])
        self._reader.start()

    def wait_for(self, phase: str, number: int = 1) -> bool:
        """Waits until a phase has begun for the n-th time, or can't any more; False if it has not.

        Raises:
          TimeoutError: neither happened.
        """
        later = PHASES[PHASES.index(phase) + 1 :]
        over = {f"begin {p}" for p in later if p != "checkpoint" or phase == "collect"}

        def known() -> bool:
            said = [mark for _, mark in self.marks]
            return self._is_over or said.count(f"begin {phase}") >= number or bool(over & {*said})

        with self._changed:
            if not self._changed.wait_for(known, _BEGUN):
                raise TimeoutError(phase)
        return any(mark == f"begin {phase}" for _, mark in self.marks)

    def phase(self) -> str:
        """Where the first process is; writing a checkpoint goes on after the call that saves."""
        phase = self.marks[-1][1].split()[1]
        if phase not in ("train", "checkpoint"):  # what an earlier kill has left is still there
            return phase
        saved = any(mark == "begin checkpoint" for _, mark in self.marks)
        unfinished = any("tmp" in p.name for p in self._workdir.glob("checkpoints/*"))
        return "checkpoint" if saved and unfinished else "train"

    def send(self, name: str, whom: list[int]) -> None:
        """Sends a signal to some of the processes."""
        for number in whom:
            self.processes[number].send_signal(getattr(signal, name))

    def finish(self, seconds: float) -> list[int]:
        """The exit statuses.

        Raises:
          TimeoutError: a process does not end; all are killed.
        """
        deadline = time.monotonic() + seconds
        try:
            return [p.wait(max(0.0, deadline - time.monotonic())) for p in self.processes]
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        finally:
            for process in self.processes:
                process.kill()
                process.wait()
            self._reader.join()

    def said(self) -> list[str]:
        """The last lines of its output, without bars of progress."""
        lines = self.log.read_text(errors="replace").replace("\r", "\n").splitlines()
        return [line for line in lines if line.strip() and "%|" not in line][-15:]

    def durations(self) -> dict[str, float]:
        """Seconds of each phase that came to its end."""
        when: dict[str, float] = {}
        for moment, mark in self.marks:
            when[mark] = moment
        stages = [p for p in OUTPUT if p != "checkpoint"]
        found = {p: when[f"end {p}"] - when[f"begin {p}"] for p in stages if f"end {p}" in when}
        begun = [when[f"begin {p}"] for p in stages if f"begin {p}" in when]
        if begun:
            found["start"] = min(begun) - when["begin start"]
        if "end train" in when and "begin checkpoint" in when:  # the stage waits for the last one
            found["checkpoint"] = when["end train"] - when["begin checkpoint"]
        return found

    def _read(self, pipe: int) -> None:
        with open(pipe) as lines:
            for line in lines:
                with self._changed:
                    self.marks.append((time.monotonic(), line.strip()))
                    self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()


def reference(folder: pathlib.Path, count: int, cache: pathlib.Path) -> tuple[dict, dict]:
    """(contents, seconds of each phase) of an uninterrupted run; done once per folder."""
    stored = folder / f"reference_{count}.json"
    if not stored.exists():
        workdir = folder / f"reference_{count}"
        shutil.rmtree(workdir, ignore_errors=True)
        for name in ("cold", "warm"):  # the first one compiles
            if name == "warm":
                shutil.rmtree(workdir)
            attempt = Attempt(workdir, count, cache)
            if any(attempt.finish(600)):
                raise RuntimeError("\n".join(attempt.said()))
        document = {"contents": contents(workdir), "durations": attempt.durations()}
        stored.write_text(json.dumps(document))
    document = json.loads(stored.read_text())
    return document["contents"], document["durations"]


def plan(draws: random.Random) -> list[str]:
    """The phases at which the kills of a trial are aimed."""
    middle = ["train", "checkpoint"] * 2
    draws.shuffle(middle)
    phases = ["collect"] * 2 + middle + ["evaluate"] * 2 + ["report"] * 2
    phases.insert(draws.randrange(len(phases)), "start")
    return phases


def trial(
    number: int, seed: int, folder: pathlib.Path, cache: pathlib.Path,
    phases: list[str] | None = None, count: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Kills one run until it ends, and says what it lost.

    Args:
      number: of the trial; together with the seed it determines all random draws.
      seed: of the campaign.
      folder: of the campaign; holds the workdir, which is kept if something was lost.
      cache: a folder for compiled programs and bytecode.
      phases: at which the kills are aimed; drawn by default.
      count: of processes; by default as ``LAYOUTS`` says.

    Returns:
      JSON values: the trial's number, processes, kills, seconds, what was lost, and faults, which
      are failures that need not have lost anything.
    """
    draws = random.Random(f"{seed} {number}")
    count = count or LAYOUTS[number % len(LAYOUTS)]
    wanted, durations = reference(folder, count, cache)
    durations = _LATEST.setdefault((folder, count), durations)
    workdir = folder / f"trial_{number:04d}"
    shutil.rmtree(workdir, ignore_errors=True)
    kills: list[dict[str, Any]] = []
    faults: list[str] = []
    began = time.monotonic()
    for aimed in [*(phases or plan(draws)), None]:
        if aimed in OUTPUT and (workdir / OUTPUT[aimed]).exists():
            continue
        attempt = Attempt(workdir, count, cache)
        if aimed is None:
            try:
                ended = str(statuses) if any(statuses := attempt.finish(_BEGUN)) else ""
            except TimeoutError:
                ended = "hangs"
            if ended:
                faults.append(f"last attempt: {ended}: {' | '.join(attempt.said())}")
            break
        name = draws.choice(SIGNALS)
        whom = list(range(count)) if draws.random() < 0.5 else [draws.randrange(count)]
        save = draws.randint(1, 3) if aimed == "checkpoint" else 1
        try:
            reached = attempt.wait_for(aimed, save)
        except TimeoutError:
            faults.append(f"{aimed} did not begin: {' | '.join(attempt.said())}")
            reached = False
        if reached:
            time.sleep(draws.random() * durations[aimed])
        alive = all(p.poll() is None for p in attempt.processes)
        landed = attempt.phase()
        sent = time.monotonic()
        if alive:
            attempt.send(name, whom)
        try:
            statuses = attempt.finish(_ENDED)
        except TimeoutError:
            statuses = []
            faults.append(f"hangs after {name} in {landed}: {' | '.join(attempt.said())}")
        for (
            phase,
            seconds,
        ) in attempt.durations().items():  # other work on the machine comes and goes
            durations[phase] = min(seconds, 1.5 * durations[phase])
        if not alive:  # it was faster
            if any(statuses):
                faults.append(f"ended by itself: {statuses}: {' | '.join(attempt.said())}")
            continue
        said = attempt.said()
        kills.append({
            "aimed": aimed, "landed": landed, "signal": name, "whom": whom, "statuses": statuses,
            "seconds": round(time.monotonic() - sent, 2),
            "said": said[-1].replace(str(workdir), "DIR")[:200] if said else "",
        })  # fmt: skip
    try:
        lost = differences(contents(workdir), wanted)
    except Exception as error:
        lost = [f"everything: {type(error).__name__}: {error}"]
    if lost or faults:
        attempt.log.rename(workdir.with_suffix(".kept.log"))
    else:
        shutil.rmtree(workdir)
        attempt.log.unlink()
    return {
        "trial": number, "processes": count, "kills": kills, "lost": lost, "faults": faults,
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def campaign(kills: int, folder: pathlib.Path, jobs: int, seed: int = 0) -> pathlib.Path:
    """Runs trials until there are ``kills`` kills; resumes after an interruption.

    Args:
      kills: the total number of kills.
      folder: of the campaign.
      jobs: trials at once.
      seed: of all draws.

    Returns:
      A file of JSON lines, one for each trial.
    """
    # A program started in the background of a shell ignores SIGINT, and so would the runs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    table, cache = folder / "trials.jsonl", folder / "cache"
    lines = table.read_text().splitlines() if table.exists() else []
    done = [json.loads(line) for line in lines]
    total, known = sum(len(t["kills"]) for t in done), {t["trial"] for t in done}
    commit = _commit()
    for count in set(LAYOUTS):
        reference(folder, count, cache)
    numbers = (n for n in range(10**6) if n not in known)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running: set[concurrent.futures.Future] = set()
        while running or total < kills:
            while len(running) < jobs and total < kills:
                running.add(pool.submit(trial, next(numbers), seed, folder, cache))
            ended, running = concurrent.futures.wait(
                running, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in ended:
                result = {**future.result(), "commit": commit}
                total += len(result["kills"])
                with open(table, "a") as file:
                    file.write(json.dumps(result) + "\n")
                print(
                    f"{total} kills; trial {result['trial']}, {result['processes']} process(es): "
                    f"{len(result['kills'])} kills in {result['seconds']:.0f} s, "
                    f"lost {result['lost'] or 'nothing'} {result['faults'] or ''}",
                    flush=True,
                )
    return table


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
