"""Finds what a config names: an entry of a registry, or an object of a user's own module."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ad_jax.errors import UserError

T = TypeVar("T")


def find(
    key: str, name: str, registry: Mapping[str, T], kind: str, is_kind: Callable[[Any], bool]
) -> T:
    """An entry of a registry or, for a name like "mypackage.rooms:Corridor", an imported object.

    Args:
      key: the config key that holds the name, for error messages.
      name: the name of the entry, or "module:name".
      registry: the entries by name.
      kind: what an imported object must be, in words, for error messages.
      is_kind: whether an imported object is of that kind.

    Raises:
      UserError: there is nothing with this name, or it is of another kind.
    """
    if name in registry:
        return registry[name]
    if ":" not in name:
        raise UserError(
            f"{key}={name!r}: choose one of {sorted(registry)}, or give 'module:name' of a module "
            "of your own"
        )
    found = imported(key, name)
    if not is_kind(found):
        raise UserError(f"{key}={name!r} is {type(found).__name__}: give {kind}")
    return found


def imported(key: str, name: str) -> Any:
    """Imports the object of a name "module:name".

    Raises:
      UserError: it can't be imported.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module may raise anything
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{key}={name!r} can't be imported ({text}): give 'module:name' of a module that "
            "Python finds, in this folder or on PYTHONPATH"
        ) from error


def short(name: str) -> str:
    """The name of an entry without its module."""
    return name.rpartition(":")[2]
