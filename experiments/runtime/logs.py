"""What is logged."""

import logging as standard
import sys
from typing import Any

from absl import logging

_unraisable = sys.unraisablehook


def set_level(verbosity: int | None) -> None:
    """Logs warnings and errors, of Orbax errors only, unless told otherwise.

    Args:
      verbosity: absl's, from 1 (debug) to -3 (fatal), of everything; None for the usual.
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
    """Leaves out what TensorStore says once Orbax, after a first failure, has stopped listening."""
    if str(raised.exc_value) != "Event loop is closed":
        _unraisable(raised)
