"""What all converters share: a plan of the files to write, its execution, and an account of every source file.

A converter looks at the download and returns a ``PlannedFolder``; nothing is written before ``execute``. The dataset is
written into a hidden folder beside its final place, which is renamed when it is complete, so that nnU-Net never sees an
incomplete dataset. What an interrupted conversion has finished stays there, and the next run continues from it.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from missu_nnunet.datasets.headers import check_whole
from missu_nnunet.errors import InputError
from missu_nnunet.files import PARTIAL, csv_text, read_finite_json, read_table, whole_file, write_csv, write_json
from missu_nnunet.parallel import map_cases
from missu_nnunet.text import last_line

ACCOUNT = "conversion.csv"
"""The name of the account of source files, in the dataset's folder."""


@dataclass(frozen=True)
class Conversion:
    """The conversion of one case.

    Attributes:
        case: name of the case, for messages.
        sources: the files that the case is made from.
        targets: the files that the case becomes, relative to the dataset's folder.
        convert: a picklable function that takes a path for each target and writes it; it raises ``InputError`` on bad
            input.
        link: whether ``convert`` may link to the sources.
    """

    case: str
    sources: tuple[Path, ...]
    targets: tuple[str, ...]
    convert: Callable[[Sequence[Path]], None]
    link: bool = False


@dataclass(frozen=True)
class PlannedFolder:
    """A folder that a conversion would make, and all that it would write into it.

    Attributes:
        name: name of the folder to make.
        conversions: the conversions of its cases.
        skipped: the source files that are not converted, each with the reason.
        errors: what prevents the conversion: the folder of a case, and a message as ``InputError`` has it.
        documents: content of the dataset's JSON files, by name.
        tables: rows of the dataset's CSV files, by name; all rows have the same keys.
        is_submission: whether the folder goes to a challenge as it is, so that the account lies beside it.
        origin: an archive, and the folder that it is unpacked to for now; the account names the source files as if they
            lay below the archive.

    Raises:
        InputError: if two cases would become the same file.
    """

    name: str
    conversions: tuple[Conversion, ...]
    skipped: Mapping[Path, str]
    errors: Mapping[Path, str] = field(default_factory=dict)
    documents: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, object]]] = field(default_factory=dict)
    is_submission: bool = False
    origin: tuple[Path, Path] | None = None

    def __post_init__(self) -> None:
        owners: dict[str, Conversion] = {}
        for conversion in self.conversions:
            for target in conversion.targets:
                first = owners.setdefault(target, conversion)
                if first is not conversion:
                    raise InputError(
                        f"{conversion.sources[0]}: becomes {target}, as {first.sources[0]} does, expected one source "
                        "of each case: rename or remove one of them"
                    )


def files_below(folder: Path) -> list[Path]:
    """List every file below a folder, sorted.

    Raises:
        InputError: if there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder that the download was unpacked to")
    return sorted(path for path in folder.rglob("*") if path.is_file())


def leftovers(
    files: Iterable[Path],
    conversions: Iterable[Conversion],
    reason: Callable[[Path], str],
    errors: Mapping[Path, str] | None = None,
) -> dict[Path, str]:
    """Find the files that no conversion takes, each with the reason.

    Args:
        files: all source files.
        conversions: the planned conversions.
        reason: says why a file is not taken, where no other reason is known.
        errors: folders of cases with errors.
    """
    taken = {source for conversion in conversions for source in conversion.sources}
    skipped = {}
    for file in files:
        if file in taken:
            continue
        if file.name.startswith("._") or file.name == ".DS_Store":
            skipped[file] = "macOS metadata, no data"
        elif any(folder in file.parents for folder in errors or ()):
            skipped[file] = "its case has an error"
        else:
            skipped[file] = reason(file)
    return skipped


def execute(
    plan: PlannedFolder,
    parent: Path,
    workers: int,
    check: Callable[[Path], None] | None = None,
    keep: bool = True,
) -> Path:
    """Write what the plan says, and return the folder that was made.

    A second run writes only what is missing or older than its sources, and keeps the files that ``edited`` names.

    Args:
        plan: what to write.
        parent: the folder that will hold the planned folder.
        workers: number of processes.
        check: looks at the finished folder before it gets its final name, and raises ``InputError`` to refuse it.
        keep: whether the caller keeps finished cases where others cannot be converted, as the message then says.

    Raises:
        InputError: if the plan has errors, in which case nothing is written; if the folder is not apart from the
            sources, holds foreign files, or was made from other sources; or if cases could not be converted, for
            reasons that the account lists.
    """
    if plan.errors:
        first = next(iter(plan.errors.values()))
        raise InputError(first + (f" ({len(plan.errors)} such errors, see --dry-run)" if len(plan.errors) > 1 else ""))
    final = parent / plan.name
    _refuse_overlap(plan, final)
    folder = final if final.exists() else parent / (PARTIAL + plan.name)
    account = parent / f"{plan.name}.{ACCOUNT}" if plan.is_submission else folder / ACCOUNT
    other = _made_from_others(plan, folder, account)
    if folder != final and (other or any(_differs(folder / name, content) for name, content in plan.documents.items())):
        shutil.rmtree(folder)  # an interrupted conversion of something else, or with other settings
    elif other:
        raise InputError(
            f"{other}: was made from other files, which {account} names: choose another name or --id, or remove "
            f"{folder} if you need nothing in it"
        )
    _refuse_foreign_files(plan, folder)
    kept = edited(plan, parent)
    for name, rows in plan.tables.items():
        if name not in kept:
            write_csv(rows, folder / name)
    for name, content in plan.documents.items():
        if name not in kept:
            write_json(content, folder / name)
        elif "numTraining" in content:  # the one entry that follows from the files
            mine = read_finite_json(folder / name, "remove it to have it written anew")
            write_json(mine | {"numTraining": content["numTraining"]}, folder / name)
    todo = [conversion for conversion in plan.conversions if not _is_done(conversion, folder)]
    # First of all the account, which tells a run that goes on after an interruption what the files were made from.
    write_csv(_account(plan, {conversion.case: "interrupted before its conversion" for conversion in todo}), account)
    results = map_cases(partial(_convert_case, folder=folder), todo, workers, f"converting to {plan.name}")
    failed = {
        conversion.case: str(result)
        for conversion, result in zip(todo, results, strict=True)
        if isinstance(result, InputError)
    }
    write_csv(_account(plan, failed), account)
    if failed:
        case, reason = next(iter(failed.items()))
        message = f"{len(failed)} of {len(plan.conversions)} cases not converted, first {case}: {reason}"
        raise InputError(message + (f"; see {account}, then run again: finished cases are kept" if keep else ""))
    for left in [path for path in folder.rglob(f"{PARTIAL}*") if not path.is_dir()]:
        left.unlink()  # of a process that was killed, on whatever machine
    if check:
        check(folder)
    if folder != final:
        os.replace(folder, final)
    return final


def edited(plan: PlannedFolder, parent: Path) -> list[str]:
    """List the documents and tables in a finished folder that the user has edited: their content is not the plan's."""
    folder = parent / plan.name
    return [
        *(name for name, content in plan.documents.items() if _differs(folder / name, content)),
        *(name for name, rows in plan.tables.items() if _is_other_text(folder / name, csv_text(rows))),
    ]


def copy_nifti(source: Path, target: Path, link: bool) -> None:
    """Put a NIfTI file in place as ``.nii.gz`` without changing its header or voxels.

    A ``.nii.gz`` is copied or linked; a ``.nii`` is compressed, because nnU-Net needs one file ending per dataset.

    Args:
        source: the NIfTI file.
        target: path of the copy or link.
        link: whether a ``.nii.gz`` is linked instead of copied.

    Raises:
        InputError: if the source is damaged or was cut short.
    """
    check_whole(source)
    if source.name.endswith(".nii"):
        with source.open("rb") as raw, gzip.GzipFile(target, "wb", compresslevel=3, mtime=0) as packed:
            shutil.copyfileobj(raw, packed)
        return
    place(source, target, link)


def place(source: Path, target: Path, link: bool) -> None:
    """Copy a file to ``target``, or link it there."""
    if link:
        target.symlink_to(source.resolve())
    else:
        shutil.copyfile(source, target)


def _differs(path: Path, content: Any) -> bool:
    """Whether the JSON file exists and holds something else, the number of cases apart, which is counted anew."""
    if not path.is_file():
        return False
    try:
        found, planned = json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(content))
    except (ValueError, RecursionError):  # not JSON, or nested too deeply
        return True
    if isinstance(found, dict) and isinstance(planned, dict):
        found["numTraining"] = planned.get("numTraining")
    return found != planned


def _is_other_text(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() != text.encode(errors="backslashreplace")


def _is_done(conversion: Conversion, folder: Path) -> bool:
    newest = max(source.stat().st_mtime for source in conversion.sources)
    targets = [folder / target for target in conversion.targets]
    if not all(target.exists() and target.lstat().st_mtime >= newest for target in targets):
        return False
    sources = {source.resolve() for source in conversion.sources}
    return conversion.link or not any(target.resolve() in sources for target in targets)


def _made_from_others(plan: PlannedFolder, folder: Path, account: Path) -> Path | None:
    """The first target that is there and was made, by the account, from other files than the plan's."""
    if not folder.is_dir() or not account.is_file():
        return None
    rows = read_table(account, "remove it")
    rows = [row for row in rows if row.get("status") != "skipped"]
    places = {_place(row.get("source", "")) for row in rows}
    known = {(row.get("inode"), row.get("modified")) for row in rows}

    def is_known(source: Path) -> bool:
        return _origin(plan, source) in places or tuple(_identity(source).values()) in known

    for conversion in plan.conversions:
        there = [folder / target for target in conversion.targets if (folder / target).exists()]
        if there and not all(map(is_known, conversion.sources)):
            return there[0]
    return None


def _identity(source: Path) -> dict[str, str]:
    """What a file keeps where it or its folder is renamed: its inode, and the time (ns) of its last change."""
    found = source.stat()
    return {"inode": str(found.st_ino), "modified": str(found.st_mtime_ns)}


def _origin(plan: PlannedFolder, source: Path) -> str:
    """What the account calls a source file: its place, which is below the archive, if there is one."""
    if plan.origin:
        archive, unpacked = plan.origin
        source = archive / source.relative_to(unpacked)
    return _place(source)


def _place(path: Path | str) -> str:
    """The full path of a file, whatever the working directory and the way to its folder, as ``write_csv`` writes it."""
    place = Path(path).parent.resolve() / Path(path).name
    return str(place).encode(errors="backslashreplace").decode()


def _convert_case(conversion: Conversion, folder: Path) -> None:
    try:
        with ExitStack() as stack:
            conversion.convert([stack.enter_context(whole_file(folder / target)) for target in conversion.targets])
    except (OSError, RuntimeError) as error:  # SimpleITK's errors are RuntimeErrors of several lines
        raise InputError(last_line(error)) from error


def _refuse_overlap(plan: PlannedFolder, final: Path) -> None:
    """Refuse to write over the sources, which would also be taken for finished cases.

    A submission's sources are all in one folder, and what is written there would be taken for predictions.
    """
    target = Path(os.path.realpath(final))
    for folder in {source.parent for conversion in plan.conversions for source in conversion.sources}:
        source = Path(os.path.realpath(folder))
        if source.is_relative_to(target) or (plan.is_submission and target.is_relative_to(source)):
            raise InputError(
                f"{final}: is, holds or lies in {folder}, whose files are to be converted, expected a folder apart: "
                "choose another place"
            )


def _refuse_foreign_files(plan: PlannedFolder, folder: Path) -> None:
    planned = {folder / target for conversion in plan.conversions for target in conversion.targets}
    planned |= {folder / name for name in (*plan.documents, *plan.tables, ACCOUNT)}
    if not folder.is_dir():
        return
    foreign = [
        file
        for file in files_below(folder)
        if file not in planned and not any(part.startswith(PARTIAL) for part in file.relative_to(folder).parts)
    ]
    if foreign:
        raise InputError(
            f"{foreign[0]}: found a file that this conversion does not write: choose another name or --id, or remove "
            f"{folder} if you need nothing in it"
        )


def _account(plan: PlannedFolder, failed: Mapping[str, str]) -> list[dict[str, str]]:
    """One row per source file."""
    rows = []
    for conversion in plan.conversions:
        status = "error" if conversion.case in failed else "converted"
        detail = failed.get(conversion.case, " ".join(conversion.targets))
        rows += [
            {"source": _origin(plan, source), "status": status, "detail": detail} | _identity(source)
            for source in conversion.sources
        ]
    rows += [
        {"source": _origin(plan, path), "status": "skipped", "detail": reason, "inode": "", "modified": ""}
        for path, reason in plan.skipped.items()
    ]
    return sorted(rows, key=lambda row: row["source"])
