"""Stopping on request: SIGTERM or Ctrl-C sets a flag that all long work polls."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

import jax
from jax.experimental import multihost_utils

from ad_jax.distributed import processes
from ad_jax.errors import UserError
from data_pipelines.files import disk_is_full

# Signals that arrive together are one request: a launcher may forward one that already arrived.
TOGETHER_SECONDS = 1.0
_ACKNOWLEDGED = b"\nstopping: saving what is finished; the same signal again stops at once\n"


class Interrupted(Exception):
    """The work was stopped on request; what was finished is saved."""


class Interruption:
    """Catches stop signals after ``install``; ``check`` raises at the next safe point.

    With several processes, JAX forwards a SIGTERM that one of them receives to all. They agree on
    the number of a query ("sync point"), and each stops at its query with that number. So all of
    them must query equally often, counted from the start of the process, and nothing else may use
    JAX's sync points.

    Attributes:
      signal: the number of the signal received; SIGTERM if another process received it.
    """

    def __init__(self):
        self._requested = False
        self._questions = 0
        self.signal = signal.SIGTERM

    def install(self) -> None:
        """Handles SIGTERM and SIGINT; a second signal ends the process at once."""
        alone = jax.process_count() == 1
        signal.signal(signal.SIGINT, self._request if alone else self._pass_on)
        if alone:
            signal.signal(signal.SIGTERM, self._request)

    @property
    def requested(self) -> bool:
        """Whether a signal came; stays true."""
        if jax.process_count() > 1 and not self._requested:
            self._questions += 1
            self._requested = multihost_utils.reached_preemption_sync_point(self._questions)
            if self._requested:
                _wait_for_the_same(signal.SIGTERM)
        return self._requested

    def check(self) -> None:
        """Raises Interrupted if a signal came."""
        if self.requested:
            raise Interrupted

    def _request(self, number, frame) -> None:
        del frame
        if self._requested:
            return
        self._requested, self.signal = True, number
        os.write(2, _ACKNOWLEDGED)  # print may be under way
        _wait_for_the_same(signal.SIGTERM, signal.SIGINT)

    def _pass_on(self, number, frame) -> None:
        """Stops all processes: turns SIGINT into the SIGTERM that JAX forwards to them."""
        del frame
        if self.signal == number:
            return
        self.signal = number
        os.kill(os.getpid(), signal.SIGTERM)
        _wait_for_the_same(number)


def _wait_for_the_same(*numbers: int) -> None:
    """Waits while copies of the first signal arrive; later ones then end the process at once.

    The system's default handlers do that, since the interpreter may be waiting for a device.
    """
    time.sleep(TOGETHER_SECONDS)
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)


def end_well(
    work: Callable[[], None],
    interruption: Interruption,
    stopped_status: Callable[[], int | None] = lambda: None,
) -> None:
    """Runs a program; an error that the user can fix ends it with one line and a non-zero status.

    Args:
      work: the whole program.
      interruption: the one that the program uses.
      stopped_status: exit status after a signal; None for 128 + its number.
    """
    try:
        work()
    except Interrupted:
        print("stopped on request: finished work is saved; run the same command to resume")
        status = stopped_status()
        sys.exit(128 + interruption.signal if status is None else status)
    except Exception as error:
        said = None
        if isinstance(error, UserError):
            said = f"error: {error}"
        elif disk_is_full(error):
            said = "error: the disk is full: free some space, and run the same command to resume"
        processes.leave(said or traceback.format_exc())
        if said is None:
            raise
        sys.exit(said)
