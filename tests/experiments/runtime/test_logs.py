"""Which log records are shown."""

import logging as standard
import sys
from types import SimpleNamespace

import pytest
from absl import logging

from experiments.runtime import logs


@pytest.fixture
def shown():
    """``shown(verbosity, level, path)``: whether a record from this file is shown."""
    before = logging.get_verbosity()

    def ask(verbosity, level, path):
        logs.set_level(verbosity)
        logger = logging.get_absl_logger()
        record = standard.LogRecord("absl", level, path, 1, "text", None, None)
        return logger.isEnabledFor(level) and bool(logger.filter(record))

    yield ask
    logs.set_level(None)
    logging.set_verbosity(before)


def test_warnings_are_shown_but_of_orbax_only_errors_unless_asked_for(shown):
    ours, orbax = "experiments/run.py", "site-packages/orbax/checkpoint.py"
    levels = (standard.INFO, standard.WARNING, standard.ERROR)
    assert [shown(None, level, ours) for level in levels] == [False, True, True]
    assert [shown(None, level, orbax) for level in levels] == [False, False, True]
    assert [shown(logging.INFO, level, orbax) for level in levels] == [True, True, True]


def test_what_comes_after_the_first_failure_is_left_out(shown, monkeypatch):
    heard = []
    monkeypatch.setattr(logs, "_unraisable", heard.append)
    shown(None, standard.INFO, "run.py")
    late, other = (SimpleNamespace(exc_value=RuntimeError(m)) for m in ("Event loop is closed", ""))
    sys.unraisablehook(late)
    sys.unraisablehook(other)
    assert heard == [other]
    shown(logging.INFO, standard.INFO, "run.py")
    sys.unraisablehook(late)
    assert heard == [other, late]
