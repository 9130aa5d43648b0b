"""The examples below the help of a command."""

from rich.markup import escape


def examples(*commands: str) -> str:
    """Return the text below a command's ``--help``, which shows command lines to copy."""
    return "\n".join(["Examples:", *(f"  {escape(command)}" for command in commands)])
