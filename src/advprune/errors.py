"""The one exception a user is meant to read: a sentence that names what was given, what is allowed, and the cure."""


class UserError(ValueError):
    """A wrong option, file or value. The scripts print its message alone, without a traceback, and exit with 1."""
