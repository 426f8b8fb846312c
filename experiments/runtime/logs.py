"""What is logged."""

import logging as standard

from absl import logging


def set_level(verbosity: int | None) -> None:
    """Logs warnings and errors, of Orbax errors only, unless told otherwise.

    Args:
      verbosity: absl's, from 1 (debug) to -3 (fatal), of everything; None for the usual.
    """
    logging.set_verbosity(logging.WARNING if verbosity is None else verbosity)
    if verbosity is None:
        logging.get_absl_logger().addFilter(_is_no_chatter)
    else:
        logging.get_absl_logger().removeFilter(_is_no_chatter)


def _is_no_chatter(record: standard.LogRecord) -> bool:
    return "orbax" not in record.pathname or record.levelno >= standard.ERROR
