"""The ``missu`` command.

Commands import the library when they run, so that ``missu --help`` does not load torch.
"""

import sys
from io import TextIOWrapper
from typing import Any, NoReturn

import typer

from missu_nnunet import __version__
from missu_nnunet.cli import crossval, dataset, weights
from missu_nnunet.cli.benchmark import benchmark
from missu_nnunet.cli.compare import compare
from missu_nnunet.cli.demo import demo
from missu_nnunet.cli.doctor import doctor
from missu_nnunet.cli.evaluate import evaluate
from missu_nnunet.cli.info import info
from missu_nnunet.cli.inspect import inspect
from missu_nnunet.cli.predict import predict
from missu_nnunet.cli.report import report
from missu_nnunet.errors import InputError, end_with, is_about_a_path
from missu_nnunet.terminal import say

app = typer.Typer(
    name="missu",
    help="MISSU, the self-distilling 3D TransUNet, as a plug-in for nnU-Net v2.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

_UsageError: type[Exception] = typer.BadParameter.__bases__[
    0
]  # click's, or that of the copy of click in newer versions of typer


def _print_version(requested: bool) -> None:
    if requested:
        say(f"missu-nnunet {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", "-V", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


app.command()(demo)
app.command()(doctor)
app.command()(info)
app.command()(benchmark)
app.add_typer(dataset.app, name="dataset")
app.add_typer(crossval.app, name="crossval")
app.command()(predict)
app.command()(evaluate)
app.command()(compare)
app.command()(report)
app.command()(inspect)
app.add_typer(weights.app, name="weights")


def _end_with_usage(error: Any) -> NoReturn:
    """End as for every error; nothing to say means that nothing was asked for, and the help has been shown."""
    if message := error.format_message():
        end_with(InputError(f"{message} See '{error.ctx.command_path if error.ctx else 'missu'} --help'."))
    sys.exit(error.exit_code)


def main() -> None:
    """Run the command; what the user can mend becomes one line on standard error and exit code 2.

    That is an :class:`InputError`, a word on the command line that is not understood, and what the system refuses to do
    with a file.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # characters that the terminal's encoding lacks
    try:
        sys.exit(app(standalone_mode=False))
    except _UsageError as error:
        _end_with_usage(error)
    except InputError as error:
        end_with(error)
    except OSError as error:
        if not is_about_a_path(error):
            raise
        end_with(error)
