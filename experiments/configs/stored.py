"""The stored config of a run: ``--config=DIR/config.json``, of any version."""

import json
import pathlib

from ad_jax import config
from ad_jax.errors import UserError
from ad_jax.paths import as_path


def get_config(path: str):
    """The config in a file, with today's keys."""
    file = as_path(path)
    try:
        return config.stored(json.loads(file.read_text()))
    except FileNotFoundError:
        raise UserError(f"--config={path}: there is no such file") from None
    except ValueError as error:  # a UserError is one, too
        raise UserError(f"--config={pathlib.PurePath(path)} can't be used: {error}") from error
