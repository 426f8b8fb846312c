"""The error that a user can mend."""


class UserError(ValueError):
    """Bad input: the message is one line that says what is wrong, where, and how to mend it."""
