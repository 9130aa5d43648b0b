"""Finds the cases among the images that a user gives: folders as nnU-Net takes them, and single files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

from missu_nnunet.datasets.images import FILE_ENDINGS, grid_difference, read_header
from missu_nnunet.datasets.readers import IMAGE_ENDINGS, count_channels
from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.dataset import RawDataset

Cases = dict[str, list[Path]]
"""case → its files, by channel"""


def find_cases(inputs: Sequence[Path], dataset: RawDataset, reader: BaseReaderWriter) -> Cases:
    """Find the cases in folders and among single files.

    Files are named as in nnU-Net, ``case_0000.nii.gz``, where 0000 is the channel. The reader tells how many channels a
    file holds: the colours of a photograph are in one file. A single file that holds all channels may have any name,
    which is then the case's.

    Args:
        inputs: folders and files.
        dataset: dataset of the model, or the dataset to add to.
        reader: reader of the dataset.

    Raises:
        InputError: if there is no image, a file has another ending or names no case, or channels are missing,
            unreadable, on different grids, or without the spacing that lies beside.
    """
    cases: Cases = {}
    for path in inputs:
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if _is_image(file, dataset))
            if not found:
                raise InputError(f"{path}: no image found, expected files ending in _0000{dataset.file_ending}")
            files = [file for file in found if _channel(file, dataset) is not None]
            if not files:
                raise InputError(
                    f"{path}: found {found[0].name} without a channel's number, expected names such as "
                    f"case_0000{dataset.file_ending}; rename the files or give them one by one"
                )
        elif path.exists():
            if not _is_image(path, dataset):
                raise InputError(f"{path}: expected an image file ending in {dataset.file_ending}; convert it")
            files = [path]
        else:
            raise InputError(f"{path}: no such file or folder; give images or a folder of them")
        for file in files:
            case = _case(file, dataset)
            if not case or case.endswith(dataset.file_ending):
                raise InputError(
                    f"{file}: no name of a case, expected names such as case_0000{dataset.file_ending}; rename the file"
                )
            if any(file.name == other.name for other in cases.get(case, [])):
                raise InputError(f"{file}: {case} is given twice; give one of them by itself")
            cases.setdefault(case, []).append(file)
    # By name: the channels of a case may come from several folders.
    cases = {case: sorted(files, key=lambda file: file.name) for case, files in sorted(cases.items())}
    for case, files in cases.items():
        _check(case, files, dataset, reader)
    return cases


def left_out(inputs: Sequence[Path], cases: Cases) -> list[str]:
    """Name the images in folders that are of no case, as they are not named like the others.

    Args:
        inputs: folders and files, as for ``find_cases``.
        cases: what it found.
    """
    taken = {file for files in cases.values() for file in files}
    there = (file for path in inputs if path.is_dir() for file in sorted(path.iterdir()) if file not in taken)
    return [file.name for file in there if file.name.endswith(IMAGE_ENDINGS) and file.name[0] != "."]


def _is_image(file: Path, dataset: RawDataset) -> bool:
    return file.name.endswith(dataset.file_ending) and file.name[0] != "." and file.is_file()


def _channel(file: Path, dataset: RawDataset) -> int | None:
    match = re.search(r"_(\d{4})$", file.name.removesuffix(dataset.file_ending))
    return int(match[1]) if match else None


def _case(file: Path, dataset: RawDataset) -> str:
    stem = file.name.removesuffix(dataset.file_ending)
    return stem if _channel(file, dataset) is None else stem[:-5]


def _check(case: str, files: list[Path], dataset: RawDataset, reader: BaseReaderWriter) -> None:
    expected = len(dataset.channels)
    found = sum(count_channels(reader, file) for file in files)
    if found != expected or [_channel(file, dataset) for file in files] not in (list(range(len(files))), [None]):
        names = ", ".join(file.name for file in files)
        raise InputError(
            f"{files[0].parent}: found {names} of {case}, together {found} channel{'s' if found > 1 else ''}, expected "
            f"{expected} ({', '.join(dataset.channels)}), named as {case}_0000{dataset.file_ending} and so on; add, "
            "convert or rename files"
        )
    beside = files[0].with_name(f"{case}.json")
    if isinstance(reader, Tiff3DIO) and _channel(files[0], dataset) is None and beside.is_file():
        raise InputError(
            f"{files[0]}: its spacing is in {beside.name}, where nnU-Net looks only for images named as "
            f"{case}_0000{dataset.file_ending}; rename the image"
        )
    if dataset.file_ending not in FILE_ENDINGS:
        return
    first, *others = (read_header(file) for file in files)
    for file, other in zip(files[1:], others, strict=True):
        if difference := grid_difference(first, other):
            raise InputError(f"{file}: {difference} of the channels differ; resample it to the grid of {files[0]}")
