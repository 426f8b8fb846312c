"""Stopping on request: SIGTERM or Ctrl-C sets a flag that all long work polls."""

import signal


class Interrupted(Exception):
    """The work was stopped on request; what was finished is saved."""


class Interruption:
    """Catches the signals from ``install`` on; ``check`` raises at the next safe place."""

    def __init__(self):
        self.requested = False

    def install(self) -> None:
        """Handles SIGTERM and SIGINT; a second one ends the process at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._request)

    def check(self) -> None:
        """Raises Interrupted if a signal came."""
        if self.requested:
            raise Interrupted

    def _request(self, number, frame) -> None:
        del frame
        self.requested = True
        signal.signal(number, signal.SIG_DFL)
