"""Writes the results of commands to files, or to standard output for other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from missu_nnunet.errors import InputError
from missu_nnunet.files import check_folder, csv_text, write_csv
from missu_nnunet.terminal import say


def check_streams(as_json: bool, csv: Path | None) -> None:
    """Refuse, before the work begins, to print JSON and CSV in one stream, or to write CSV where it cannot be.

    Raises:
        InputError: if both are asked for, or the CSV's place is a folder, or in one that cannot be written to.
    """
    if as_json and str(csv) == "-":
        raise InputError("--json and --csv -: both print to standard output; give --csv a file")
    if csv and str(csv) != "-":
        if csv.is_dir():
            raise InputError(f"--csv {csv}: cannot be written (Is a directory); give the name of a file")
        check_folder(csv.parent)


def write_rows(rows: Sequence[Mapping[str, object]], file: Path) -> None:
    """Write rows as CSV to a file, or to standard output if it is called ``-``.

    Raises:
        InputError: if the file cannot be written.
    """
    if str(file) != "-":
        write_csv(rows, file)
        return
    for line in csv_text(rows).splitlines():
        say(line)
