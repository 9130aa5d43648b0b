"""Reading images, by themselves or through a dataset's own reader, and telling whether two lie on the same grid."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import nibabel
import numpy as np
import SimpleITK as sitk
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import LIST_OF_IO_CLASSES, determine_reader_writer_from_dataset_json
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient
from numpy.typing import NDArray

from missu_nnunet.errors import InputError
from missu_nnunet.files import read_json
from missu_nnunet.nnunet.dataset import RawDataset

FILE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
"""The file endings of nnU-Net's that SimpleITK reads with their geometry."""


def read_image(path: Path) -> sitk.Image:
    """The image, or an :class:`InputError` that says why it cannot be read."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{path}: not a readable image ({reason}): replace the file by an intact one") from error
    check_whole(path)
    return image


def is_nifti(path: Path) -> bool:
    """Whether the file is called a NIfTI file."""
    return path.name.endswith((".nii", ".nii.gz"))


def nifti_voxels(path: Path) -> np.ndarray:
    """Voxels of a NIfTI file in SimpleITK's order, as nibabel reads them, or an :class:`InputError`.

    SimpleITK says nothing of two faults: it turns NaN into 0, and fills with 0 what a file that was cut short lacks.
    """
    try:
        return np.asarray(nibabel.nifti1.load(path).dataobj).T
    except (OSError, EOFError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(f"{path}: damaged or cut short ({error}): replace the file by an intact one") from error


def read_voxels(path: Path) -> np.ndarray:
    """An image's voxels as they lie in the file, in SimpleITK's order, or an :class:`InputError`."""
    return nifti_voxels(path) if is_nifti(path) else sitk.GetArrayFromImage(read_image(path))


def check_whole(path: Path) -> None:
    """Raise an :class:`InputError` for a NIfTI file that was cut short; of other files SimpleITK says so itself."""
    if is_nifti(path):
        nifti_voxels(path)


Grid = sitk.Image | sitk.ImageFileReader
"""What has a size, a spacing (mm), an origin (mm) and a direction: an image, or a reader that has read its header."""


def read_header(path: Path) -> sitk.ImageFileReader:
    """The image's grid without its voxels, or an :class:`InputError` that says why it cannot be read."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"{path}: not a readable image: replace the file by an intact one") from error
    return reader


def grid_difference(image: Grid, other: Grid) -> str | None:
    """What differs first between two grids, "shape (4, 4, 4) and (4, 4, 5)", or None where they agree.

    Headers keep their numbers in 32-bit floats, and each software rounds its own way: spacings may differ by 1e-4 of
    themselves, origins by 1 % of a voxel, directions by 1e-4. Shapes and vectors are in the order x, y, z.
    """
    if image.GetSize() != other.GetSize():
        return f"shape {image.GetSize()} and {other.GetSize()}"
    if not np.allclose(image.GetSpacing(), other.GetSpacing(), rtol=1e-4, atol=0):
        return f"spacing {_rounded(image.GetSpacing())} and {_rounded(other.GetSpacing())} mm"
    if not np.allclose(image.GetOrigin(), other.GetOrigin(), rtol=0, atol=0.01 * min(image.GetSpacing())):
        return f"origin {_rounded(image.GetOrigin())} and {_rounded(other.GetOrigin())} mm"
    if not np.allclose(image.GetDirection(), other.GetDirection(), rtol=0, atol=1e-4):
        return f"direction {_rounded(image.GetDirection())} and {_rounded(other.GetDirection())}"
    return None


def _rounded(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values)


Properties = dict[str, Any]
"""What nnU-Net's readers tell of an image beside its voxels: the spacing (mm, z, y, x), and what writing needs."""

Read = TypeVar("Read")


def find_reader(dataset: RawDataset, example: Path) -> BaseReaderWriter:
    """The reader, and writer, that nnU-Net chooses for a dataset, one of whose images is the example.

    Raises:
        InputError: none of nnU-Net's readers reads the image.
    """
    description = {"file_ending": dataset.file_ending}
    if dataset.reader is not None:
        description["overwrite_image_reader_writer"] = dataset.reader
    check_whole(example)
    choose = partial(determine_reader_writer_from_dataset_json, description, str(example), verbose=False)
    reader: type[BaseReaderWriter] = _quietly(example, "nnU-Net", choose)
    return reader()


def model_reader(model: Path) -> BaseReaderWriter:
    """The reader that the plans in a trained model's folder name.

    Raises:
        InputError: there are no plans, or they name none of nnU-Net's readers.
    """
    path = model / "plans.json"
    name = read_json(path, "give a trained model's folder, Trainer__Plans__configuration in nnUNet_results").get(
        "image_reader_writer"
    )
    found = {reader.__name__: reader for reader in (*LIST_OF_IO_CLASSES, SimpleITKIOWithReorient)}.get(name)
    if found is None:
        raise InputError(f"{path}: image_reader_writer is {name!r}, expected one of nnU-Net's readers; plan again")
    return found()


def count_channels(reader: BaseReaderWriter, file: Path) -> int:
    """How many channels the reader finds in a file.

    Raises:
        InputError: the reader refuses the file.
    """
    if isinstance(reader, SimpleITKIO):  # the header tells
        header = read_header(file)
        return int(header.GetSize()[3]) if header.GetDimension() == 4 else 1
    return len(read_channels(reader, [file])[0])


def read_channels(reader: BaseReaderWriter, files: Sequence[Path]) -> tuple[NDArray[np.float32], Properties]:
    """A case's image as nnU-Net reads it, ``(C, Z, Y, X)``.

    Raises:
        InputError: a file is damaged, or the reader refuses the files.
    """
    for file in files:
        check_whole(file)
    name = f"nnU-Net's {type(reader).__name__}"
    return _quietly(files[0], name, lambda: reader.read_images([str(file) for file in files]))


def read_labels(reader: BaseReaderWriter, file: Path) -> tuple[NDArray[np.float32], Properties]:
    """A label map as nnU-Net reads it, ``(Z, Y, X)``.

    Raises:
        InputError: the file is damaged, the reader refuses it, or it holds more than one channel.
    """
    check_whole(file)
    name = f"nnU-Net's {type(reader).__name__}"
    labels, properties = _quietly(file, name, lambda: reader.read_seg(str(file)))
    if len(labels) != 1:
        raise InputError(f"{file}: {len(labels)} channels, expected a label map, which has one number per voxel")
    return labels[0], properties


def write_labels(reader: BaseReaderWriter, labels: np.ndarray, properties: Properties, file: Path) -> None:
    """Write a label map ``(Z, Y, X)`` with the properties of an image or label map on its grid.

    Raises:
        InputError: the reader's class cannot write it.
    """
    _quietly(file, f"nnU-Net's {type(reader).__name__}", lambda: reader.write_seg(labels, str(file), properties))


def _quietly(file: Path, name: str, read: Callable[[], Read]) -> Read:
    """What `read` gives; nnU-Net's readers print what they find, and raise whatever they like."""
    output = io.StringIO()
    try:
        with redirect_stdout(output), redirect_stderr(output):
            return read()
    except Exception as error:
        said = [line for line in (*str(error).splitlines(), *output.getvalue().splitlines()) if line.strip()]
        reason = said[0].strip() if said else type(error).__name__
        raise InputError(f"{file}: refused by {name} ({reason}): replace or convert the file") from error
