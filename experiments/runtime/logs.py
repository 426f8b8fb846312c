"""Which messages are logged."""

import logging as standard
import sys
from typing import Any

from absl import logging

_unraisable = sys.unraisablehook


def set_level(verbosity: int | None) -> None:
    """Sets which messages are logged.

    Args:
      verbosity: absl's level for everything, from 1 (debug) to -3 (fatal); None for the default:
        warnings and errors, but from Orbax errors only.
    """
    logging.set_verbosity(logging.WARNING if verbosity is None else verbosity)
    if verbosity is None:
        logging.get_absl_logger().addFilter(_is_no_chatter)
        sys.unraisablehook = _show_unless_late
    else:
        logging.get_absl_logger().removeFilter(_is_no_chatter)
        sys.unraisablehook = _unraisable


def _is_no_chatter(record: standard.LogRecord) -> bool:
    return "orbax" not in record.pathname or record.levelno >= standard.ERROR


def _show_unless_late(raised: Any) -> None:
    """Hides the message that TensorStore gives once Orbax has closed its loop after an error."""
    if str(raised.exc_value) != "Event loop is closed":
        _unraisable(raised)
