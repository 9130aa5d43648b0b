"""Reads images and label maps with nnU-Net's reader for a dataset, as training and prediction will see them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import SimpleITK as sitk
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.reader_writer_registry import LIST_OF_IO_CLASSES, determine_reader_writer_from_dataset_json
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from numpy.typing import NDArray

from missu_nnunet.datasets.headers import check_whole, is_nifti, nifti_voxels
from missu_nnunet.datasets.images import read_header, read_image, refuse_non_finite
from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.dataset import RawDataset
from missu_nnunet.nnunet.model import PLANS_FILE, read_model_plans
from missu_nnunet.nnunet.names import check_names

Properties = dict[str, Any]
"""What nnU-Net's readers tell of an image beside its voxels: its spacing (mm; z, y, x), and what writing needs."""

IMAGE_ENDINGS = tuple(sorted({ending for reader in LIST_OF_IO_CLASSES for ending in reader.supported_file_endings}))
"""The file endings that nnU-Net's readers take."""

Read = TypeVar("Read")


def find_reader(dataset: RawDataset, example: Path) -> BaseReaderWriter:
    """Find the reader and writer that nnU-Net chooses for a dataset.

    Args:
        dataset: the raw dataset.
        example: one of its images.

    Raises:
        InputError: if none of nnU-Net's readers reads the image.
    """
    description = {"file_ending": dataset.file_ending}
    if dataset.reader is not None:
        description["overwrite_image_reader_writer"] = dataset.reader
        check_names(description, str(dataset.file))
    check_whole(example)
    choose = partial(determine_reader_writer_from_dataset_json, description, str(example), verbose=False)
    reader: type[BaseReaderWriter] = _quietly(example, "nnU-Net", choose)
    return reader()


def model_reader(model: Path) -> BaseReaderWriter:
    """Find the reader that a trained model's plans name.

    Raises:
        InputError: if there are no plans, or they name none of nnU-Net's readers.
    """
    name = read_model_plans(model).get("image_reader_writer")
    readers = {reader.__name__: reader for reader in (*LIST_OF_IO_CLASSES, SimpleITKIOWithReorient)}
    if not isinstance(name, str) or name not in readers:
        raise InputError(
            f"{model / PLANS_FILE}: image_reader_writer is {name!r}, expected one of nnU-Net's readers; plan again"
        )
    return readers[name]()


def reorients(reader: str) -> bool:
    """Say whether nnU-Net's reader of this name turns every volume to RAS."""
    return reader.endswith("WithReorient")


def hint_at_slices(reader: BaseReaderWriter, file: Path) -> str:
    """Say what to do where TIFF volumes are read as photographs, or nothing: nnU-Net takes 3 or 4 slices for colours.

    Args:
        reader: reader of the dataset, which nnU-Net chooses by the first image.
        file: one of the dataset's files.
    """
    taken = isinstance(reader, NaturalImage2DIO) and file.suffix.lower() == ".tif"
    return ' (are they slices? Then set "overwrite_image_reader_writer": "Tiff3DIO" in dataset.json)' if taken else ""


def count_channels(reader: BaseReaderWriter, file: Path) -> int:
    """Count the channels that the reader finds in a file.

    Raises:
        InputError: if the reader refuses the file, or reads it but could not write its segmentation.
    """
    if isinstance(reader, SimpleITKIO):  # the header tells
        if read_header(file).GetDimension() == 4:  # whose geometry nnU-Net cannot give to a segmentation
            raise InputError(
                f"{file}: 4 dimensions, expected one channel per file: split it into files named CASE_0000, CASE_0001 "
                "and so on"
            )
        return 1
    return len(read_channels(reader, [file])[0])


def read_channels(reader: BaseReaderWriter, files: Sequence[Path]) -> tuple[NDArray[np.float32], Properties]:
    """Read a case's image ``(C, Z, Y, X)`` as nnU-Net does.

    Raises:
        InputError: if a file is damaged, or the reader refuses the files.
    """
    for file in files:
        _check(reader, file)
    voxels, properties = _quietly(files[0], _name(reader), lambda: reader.read_images([str(file) for file in files]))
    _refuse_odd_spacing(files[0], properties)
    return voxels, properties


def read_values(reader: BaseReaderWriter, file: Path) -> NDArray[Any]:
    """Read an image's values; of NIfTI files as they lie there, since SimpleITK reads NaN as 0.

    Raises:
        InputError: as for ``read_channels``.
    """
    return nifti_voxels(file) if is_nifti(file) else read_channels(reader, [file])[0]


def read_labels(reader: BaseReaderWriter, file: Path) -> tuple[NDArray[np.float32], Properties]:
    """Read a label map ``(Z, Y, X)`` as nnU-Net does.

    Raises:
        InputError: if the file is damaged, the reader refuses it, or it holds more than one channel, NaN or infinity.
    """
    _check(reader, file)
    labels, properties = _quietly(file, _name(reader), lambda: reader.read_seg(str(file)))
    if len(labels) != 1:
        found = f"{len(labels)} channels{hint_at_slices(reader, file)}"
        raise InputError(f"{file}: {found}, expected a label map, which has one number per voxel")
    refuse_non_finite(file, labels)
    _refuse_odd_spacing(file, properties)
    return labels[0], properties


def read_volume(reader: BaseReaderWriter, file: Path) -> sitk.Image:
    """Read an image with its geometry. TIFF volumes go through the reader, as SimpleITK sees their first page alone.

    Raises:
        InputError: if the file cannot be read.
    """
    if not isinstance(reader, Tiff3DIO):
        return read_image(file)
    values, properties = read_labels(reader, file)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing([float(step) for step in properties["spacing"][::-1]])
    return image


def write_labels(reader: BaseReaderWriter, labels: np.ndarray, properties: Properties, file: Path) -> None:
    """Write a label map.

    Args:
        reader: reader of the dataset, which also writes.
        labels: the labels ``(Z, Y, X)``.
        properties: what the reader told of an image or label map on the same grid.
        file: the file to write.

    Raises:
        InputError: if the reader's class cannot write it.
    """
    _quietly(file, _name(reader), lambda: reader.write_seg(labels, str(file), properties))


def _check(reader: BaseReaderWriter, file: Path) -> None:
    """Refuse what the reader would read without a word."""
    check_whole(file)
    if isinstance(reader, SimpleITKIO):
        read_header(file)


def _refuse_odd_spacing(file: Path, properties: Properties) -> None:
    """Refuse what may stand in the JSON file that Tiff3DIO reads beside an image."""
    spacing = list(properties["spacing"])
    if not all(isinstance(step, int | float | np.number) and 0 < step < math.inf for step in spacing):
        raise InputError(f"{file}: a spacing of {spacing}, expected lengths in mm: correct the JSON file beside it")


def _name(reader: BaseReaderWriter) -> str:
    return f"nnU-Net's {type(reader).__name__}"


def _quietly(file: Path, name: str, read: Callable[[], Read]) -> Read:
    """What ``read`` gives; nnU-Net's readers print what they find, and raise whatever they like."""
    output = io.StringIO()
    try:
        with redirect_stdout(output), redirect_stderr(output):
            return read()
    except Exception as error:
        said = [line for line in (*str(error).splitlines(), *output.getvalue().splitlines()) if line.strip()]
        reason = said[0].strip() if said else type(error).__name__
        raise InputError(f"{file}: refused by {name} ({reason}): replace or convert the file") from error
