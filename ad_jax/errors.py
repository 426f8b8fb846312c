"""The error for mistakes that a user can fix."""


class UserError(ValueError):
    """Bad input: the message is one line that says what is wrong, where, and how to fix it."""
