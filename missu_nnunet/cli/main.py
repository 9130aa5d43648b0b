"""The ``missu`` command.

Commands import the library when they run, so that ``missu --help`` does not load torch.
"""

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
from missu_nnunet.errors import InputError, end_with

app = typer.Typer(
    name="missu",
    help="MISSU, the self-distilling 3D TransUNet, as a plug-in for nnU-Net v2.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"missu-nnunet {__version__}")
        raise typer.Exit


@app.callback()
def _root(version: bool = typer.Option(False, "--version", callback=_print_version, help="Print the version.")) -> None:
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


def main() -> None:
    """Run the command; an :class:`InputError` becomes one line on standard error and exit code 2."""
    try:
        app()
    except InputError as error:
        end_with(error)
