"""The error that a user can act on."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line that names the file or argument, what was found, what was expected and the remedy. The
    ``missu`` command prints it without a traceback and exits with code 2.
    """
