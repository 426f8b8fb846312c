"""Signals. Tests with real processes are in test_run.py and test_processes.py."""

import os
import signal
import threading

import pytest
from jax.experimental import multihost_utils

from experiments.runtime import interruption
from experiments.runtime.interruption import Interruption, end_well


@pytest.fixture
def installed():
    """An interruption whose handlers are removed at the end."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    handlers = [signal.getsignal(number) for number in numbers]
    asked = Interruption()
    asked.install()
    yield asked
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize(
    "number, given, status",
    [
        (signal.SIGTERM, None, 143),
        (signal.SIGINT, None, 130),
        (signal.SIGTERM, 0, 0),
        (signal.SIGINT, 1, 1),
    ],
)
def test_the_exit_status_tells_the_signal_unless_another_is_given(installed, number, given, status):
    os.kill(os.getpid(), number)
    with pytest.raises(SystemExit) as ended:
        end_well(installed.check, installed, lambda: given)
    assert ended.value.code == status


def test_signals_together_are_one_request_and_a_later_one_stops_at_once(installed, monkeypatch):
    """SLURM may signal both the batch script, which forwards the signal, and the job step."""
    monkeypatch.setattr(interruption, "TOGETHER_SECONDS", 0.3)
    again = threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM])
    again.start()
    os.kill(os.getpid(), signal.SIGTERM)
    again.join()
    assert installed.requested and installed.signal == signal.SIGTERM
    for number in (signal.SIGTERM, signal.SIGINT):
        assert signal.getsignal(number) == signal.SIG_DFL


def test_several_processes_ask_with_numbers_that_leave_none_out(installed, monkeypatch):
    """JAX stops all of them at one number. If one skipped it, the signal would be lost."""
    asked = []
    monkeypatch.setattr(interruption.jax, "process_count", lambda: 2)
    ask = lambda number: asked.append(number) or number == 4
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", ask)
    del installed  # it puts the handlers back
    several = Interruption()
    assert [several.requested for _ in range(6)] == [False] * 3 + [True] * 3
    assert asked == [1, 2, 3, 4]  # after the answer, it asks no more
