"""Checks of the arguments of environments."""


def at_least(least: int, **values: object) -> None:
    """Raises ValueError unless all values are integers and at least ``least``."""
    for name, value in values.items():
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number, {least} or more, not {value!r}")
