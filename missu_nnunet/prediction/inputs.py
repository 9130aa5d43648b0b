"""The cases to predict: a folder as nnU-Net takes it, or single files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from missu_nnunet.datasets.images import FILE_ENDINGS, grid_difference, read_header
from missu_nnunet.errors import InputError
from missu_nnunet.evaluation.folders import some
from missu_nnunet.nnunet.dataset import RawDataset

Cases = dict[str, list[Path]]
"""case → its files, by channel"""


def find_cases(inputs: Sequence[Path], dataset: RawDataset) -> Cases:
    """The cases in folders, and among single files.

    A file is named as in nnU-Net, ``case_0000.nii.gz``, where 0000 is the channel. Of a dataset with one channel a
    single file may be called anything; its name is the case's.

    Args:
        inputs: folders and files.
        dataset: the model's.

    Raises:
        InputError: nothing is there, a file has another ending, channels are missing, unreadable, or on different
            grids.
    """
    cases: Cases = {}
    for path in inputs:
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if _is_image(file, dataset))
            if not found:
                raise InputError(f"{path}: no image found, expected files ending in _0000{dataset.file_ending}")
            named = [file for file in found if _channel(file, dataset) is not None]
            if not named:
                raise InputError(
                    f"{path}: {some([file.name for file in found])} without a channel's number, expected names such as "
                    f"case_0000{dataset.file_ending}; rename them or give the files themselves"
                )
            files = named
        elif path.is_file():
            if not _is_image(path, dataset):
                raise InputError(f"{path}: the model was trained on files ending in {dataset.file_ending}; convert it")
            files = [path]
        else:
            raise InputError(f"{path}: no such file or folder; give images or a folder of them")
        for file in files:
            case = _case(file, dataset)
            if any(file.name == other.name for other in cases.get(case, [])):
                raise InputError(f"{file}: {case} is given twice; predict one of them into another folder")
            cases.setdefault(case, []).append(file)
    for case, files in cases.items():
        _check(case, sorted(files), dataset)
    return {case: sorted(files) for case, files in sorted(cases.items())}


def _is_image(file: Path, dataset: RawDataset) -> bool:
    return file.name.endswith(dataset.file_ending) and file.name[0] != "." and file.is_file()


def _channel(file: Path, dataset: RawDataset) -> int | None:
    match = re.search(r"_(\d{4})$", file.name.removesuffix(dataset.file_ending))
    return int(match[1]) if match else None


def _case(file: Path, dataset: RawDataset) -> str:
    stem = file.name.removesuffix(dataset.file_ending)
    return stem if _channel(file, dataset) is None else stem[:-5]


def _check(case: str, files: list[Path], dataset: RawDataset) -> None:
    # A photograph's colours are channels of one file.
    expected = len(dataset.channels) if dataset.file_ending in FILE_ENDINGS else 1
    channels = [_channel(file, dataset) for file in files]
    if channels not in (list(range(expected)), [None] if expected == 1 else []):
        names = ", ".join(file.name for file in files)
        raise InputError(
            f"{files[0].parent}: found {names} of {case}, expected {expected} "
            f"channel{'s' if expected > 1 else ''} ({', '.join(dataset.channels)}), as in "
            f"{case}_{expected - 1:04d}{dataset.file_ending}; add or rename them"
        )
    if dataset.file_ending not in FILE_ENDINGS:
        return
    first, *others = (read_header(file) for file in files)
    for file, other in zip(files[1:], others, strict=True):
        if difference := grid_difference(first, other):
            raise InputError(f"{file}: {difference} of the channels differ; resample it to the grid of {files[0]}")
