"""The ``missu`` command.

Commands import the library when they run, so that ``missu --help`` does not load torch.
"""

import os
import re
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
from missu_nnunet.cli.examples import examples
from missu_nnunet.cli.info import info
from missu_nnunet.cli.inspect import inspect
from missu_nnunet.cli.model_card import model_card
from missu_nnunet.cli.nnunet_spelling import FoldsBySpaces
from missu_nnunet.cli.predict import predict
from missu_nnunet.cli.report import report
from missu_nnunet.errors import InputError, end_with, is_about_a_path, is_out_of_memory
from missu_nnunet.parallel import default_workers
from missu_nnunet.terminal import say
from missu_nnunet.text import first_line

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
    _check_environment()


def _check_environment() -> None:
    """Refuse what nnU-Net and its libraries would trip over while they are imported."""
    default_workers()  # checks nnUNet_def_n_proc
    for variable, expected in (("nnUNet_n_proc_DA", "[0-9]{1,4}"), ("OMP_NUM_THREADS", "[1-9][0-9]{0,3}|")):
        value = os.environ.get(variable)
        if value is not None and not re.fullmatch(expected, value):
            raise InputError(f"{variable} is {value!r}, expected a whole number up to 9999; correct it, or unset it")


app.command(epilog=examples("missu demo --out missu-demo"))(demo)
app.command(epilog=examples("missu doctor", "missu doctor --json"))(doctor)
app.command(
    epilog=examples(
        "missu info $nnUNet_preprocessed/Dataset004_Hippocampus/nnUNetMISSUPlans.json",
        "missu info nnUNetMISSUPlans.json -c 2d --json",
    )
)(info)
app.command(
    epilog=examples(
        "missu benchmark $nnUNet_preprocessed/Dataset004_Hippocampus/nnUNetMISSUPlans.json",
        "missu benchmark nnUNetMISSUPlans.json -c 2d --device cuda --rounds 20 --json",
    )
)(benchmark)
app.add_typer(dataset.app, name="dataset")
app.add_typer(crossval.app, name="crossval")
_MODEL = "$nnUNet_results/Dataset004_Hippocampus/MISSUTrainer__nnUNetMISSUPlans__3d_fullres"
_STOCK = "$nnUNet_results/Dataset004_Hippocampus/nnUNetTrainer__nnUNetPlans__3d_fullres"
app.command(
    epilog=examples(
        f"missu predict scan.nii.gz -o predictions -m {_MODEL}",
        f"missu predict imagesTs -o predictions -m {_MODEL} -f 0,1 --uncertainty --overlays",
        "missu predict imagesTs -o predictions -m model.zip -c 3d_fullres --continue",
        "missu predict -i imagesTs -o predictions -d 4 -c 3d_fullres -tr MISSUTrainer -p nnUNetMISSUPlans -f 0 1",
    ),
    cls=FoldsBySpaces,
)(predict)
app.command(
    epilog=examples(
        "missu evaluate predictions labelsTs -d 4",
        "missu evaluate predictions labelsTs --metrics dice,hd95 --csv scores.csv",
        "missu evaluate predictions labelsTs --json",
    )
)(evaluate)
app.command(
    epilog=examples(
        f"missu compare {_MODEL} {_STOCK}",
        "missu compare predictions-a predictions-b --reference labelsTs --metrics dice,nsd --csv -",
    )
)(compare)
app.command(
    epilog=examples(
        f"missu report {_MODEL} -o report.html",
        f"missu report {_MODEL} {_STOCK} --case hippocampus_001",
    )
)(report)
app.command(epilog=examples("missu inspect checkpoint_final.pth", "missu inspect model.zip --json"))(inspect)
app.add_typer(weights.app, name="weights")
app.command("model-card", epilog=examples(f"missu model-card {_MODEL} -o README.md"))(model_card)


def _end_with_usage(error: Any) -> NoReturn:
    """End as for every error; nothing to say means that nothing was asked for, and the help has been shown."""
    if message := error.format_message():
        end_with(InputError(f"{message} See '{error.ctx.command_path if error.ctx else 'missu'} --help'."))
    sys.exit(error.exit_code)


def main() -> None:
    """Run the command; an error that the user can mend becomes one line on standard error and exit code 2.

    Such errors are an ``InputError``, a word on the command line that is not understood, a file or memory that the
    system refuses, and a link that leads back to itself.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # characters that the terminal's encoding lacks
    try:
        sys.exit(app(prog_name="missu", standalone_mode=False))
    except _UsageError as error:
        _end_with_usage(error)
    except InputError as error:
        end_with(error)
    except OSError as error:
        if not is_about_a_path(error):
            raise
        end_with(error)
    except (MemoryError, RuntimeError) as error:
        if str(error).startswith("Symlink loop"):  # of Path.resolve before Python 3.13
            end_with(InputError(f"{error}; remove the link that leads back to itself"))
        if not is_out_of_memory(error):
            raise
        end_with(InputError(f"not enough memory ({first_line(error)}); free some, or use a machine that has more"))
