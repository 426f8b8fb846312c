"""Stopping on request: SIGTERM or Ctrl-C sets a flag that all long work polls."""

import signal
import sys
from collections.abc import Callable

import jax
from jax.experimental import multihost_utils

from ad_jax.errors import UserError
from data_pipelines.files import disk_is_full


class Interrupted(Exception):
    """The work was stopped on request; what was finished is saved."""


class Interruption:
    """Catches the signals from ``install`` on; ``check`` raises at the next safe place.

    Where there are several processes, JAX takes the SIGTERM to any one of them to all, and they
    stop at the same question: they must ask equally often.

    Attributes:
      questions: how often was asked. Whoever saves checkpoints sets it to the steps made, for Orbax
        asks JAX as well, with the number of the step: were that another one, a signal could be
        missed.
    """

    def __init__(self):
        self._requested = False
        self.questions = 0

    def install(self) -> None:
        """Handles SIGTERM and SIGINT; a second one ends the process at once."""
        if jax.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._request)

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        if jax.process_count() > 1:
            self.questions += 1
            self._requested |= multihost_utils.reached_preemption_sync_point(self.questions)
        return self._requested

    def check(self) -> None:
        """Raises Interrupted if a signal came."""
        if self.requested:
            raise Interrupted

    def _request(self, number, frame) -> None:
        del frame
        self._requested = True
        signal.signal(number, signal.SIG_DFL)


def end_well(work: Callable[[], None], stopped_status: Callable[[], int] = lambda: 0) -> None:
    """Does the work; what a user can mend ends the process in one line and a non-zero status.

    Args:
      work: of a whole program.
      stopped_status: exit status after a signal.
    """
    try:
        work()
    except Interrupted:
        print("stopped as asked: what was finished is saved, and the same command goes on")
        sys.exit(stopped_status())
    except UserError as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        if not disk_is_full(error):
            raise
        sys.exit("error: the disk is full: make room, then the same command goes on")
