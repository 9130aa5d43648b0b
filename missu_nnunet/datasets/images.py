"""Reads images, and tells whether two of them lie on the same grid."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import SimpleITK as sitk
from pydantic import Field

from missu_nnunet.datasets.headers import check_header, check_whole, is_nifti, nifti_voxels
from missu_nnunet.errors import InputError
from missu_nnunet.structures import Structure, read_structure
from missu_nnunet.text import last_line

FILE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".gipl")
"""The file endings of nnU-Net's that SimpleITK reads with their geometry."""

_PERMISSIVE = "ITK_NIFTI_SFORM_PERMISSIVE"
"""The environment variable that lets ITK read NIfTI files whose axes are not at right angles."""

Read = TypeVar("Read")
_Distance = Annotated[float, Field(gt=0, allow_inf_nan=False)]

sitk.ProcessObject.GlobalWarningDisplayOff()  # ITK's warnings of several lines; what matters is an InputError


def read_image(path: Path) -> sitk.Image:
    """Read an image.

    Raises:
        InputError: if it cannot be read.
    """
    read_header(path)
    check_whole(path)
    image = _sheared_too(path, lambda: sitk.ReadImage(str(path)))
    if path.suffix.lower() == ".bmp":
        return _without_palette(image)
    if _is_tiff(path) and image.GetDimension() == 3 and (spacing := _tiff_spacing(path)):
        image.SetSpacing(spacing[::-1])
    return image


def _without_palette(image: sitk.Image) -> sitk.Image:
    """A grey BMP as it was written: SimpleITK gives the grey of its palette as three equal colours."""
    values = sitk.GetArrayViewFromImage(image)
    if image.GetNumberOfComponentsPerPixel() == 1 or (values != values[..., :1]).any():
        return image
    return sitk.VectorIndexSelectionCast(image, 0)


def _is_tiff(path: Path) -> bool:
    return path.suffix.lower() in (".tif", ".tiff")


class _Spacing(Structure):
    """The spacing of a TIFF volume along z, y and x in mm."""

    spacing: tuple[_Distance, _Distance, _Distance]


def _tiff_spacing(path: Path) -> tuple[float, float, float] | None:
    """The spacing of a TIFF volume (z, y, x), which nnU-Net keeps in ``CASE.json`` beside it, if that is there."""
    own = path.with_suffix(".json")
    of_channels = own.with_name(re.sub(r"_\d{4}\.json$", ".json", own.name))
    remedy = 'nnU-Net keeps a TIFF volume\'s spacing there, as in {"spacing": [5, 0.5, 0.5]}, along z, y and x in mm'
    file = next((file for file in (own, of_channels) if file.is_file()), None)
    return read_structure(file, _Spacing, remedy).spacing if file else None


def share_spacing(images: Mapping[Path, sitk.Image]) -> None:
    """Give TIFF volumes without a spacing that of another file of their case; nnU-Net itself needs it of images alone.

    Args:
        images: what was read of each file: image, reference and predictions of one case.

    Raises:
        InputError: if a file with a spacing cannot be read.
    """
    own = {path: _tiff_spacing(path) for path, image in images.items() if image.GetDimension() == 3 and _is_tiff(path)}
    known = next(filter(None, own.values()), None)
    for path, spacing in own.items():
        if known and not spacing:
            images[path].SetSpacing(known[::-1])


def read_label_map(path: Path) -> sitk.Image:
    """Read a label map.

    Raises:
        InputError: if it cannot be read, or has several values per voxel or values that are no numbers.
    """
    image = read_image(path)
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise InputError(
            f"{path}: {image.GetNumberOfComponentsPerPixel()} values per voxel, such as colours, expected a label map, "
            "which has one: convert it"
        )
    refuse_non_finite(path, sitk.GetArrayViewFromImage(image))
    return image


def refuse_non_finite(path: Path, labels: np.ndarray) -> None:
    """Refuse labels that are no numbers.

    Args:
        path: the file that they come from.
        labels: what a reader made of it.

    Raises:
        InputError: if a label is NaN or infinite.
    """
    if is_nifti(path) and read_header(path).GetPixelID() in (sitk.sitkFloat32, sitk.sitkFloat64):
        labels = nifti_voxels(path)  # SimpleITK reads NaN as 0
    if not np.isfinite(labels).all():
        raise InputError(f"{path}: NaN or infinite voxels, expected a label in each: export the label map again")


def refuse_unknown_labels(path: Path, labels: np.ndarray, known: Collection[int], remedy: str) -> None:
    """Refuse labels that mean nothing.

    Args:
        path: the file that they come from.
        labels: what a reader made of it.
        known: the labels that it may hold.
        remedy: advice of the message.

    Raises:
        InputError: if there is another label.
    """
    unknown = np.setdiff1d(labels, list(known))
    if unknown.size:
        expected = ", ".join(map(str, sorted(known)))
        raise InputError(f"{path}: found label {unknown[0]:.9g}, expected {expected}; {remedy}")


def read_voxels(path: Path) -> np.ndarray:
    """Read an image's voxels as they lie in the file, in SimpleITK's order ``(Z, Y, X)``.

    Raises:
        InputError: if it cannot be read.
    """
    return nifti_voxels(path) if is_nifti(path) else sitk.GetArrayFromImage(read_image(path))


def refuse_non_finite_image(path: Path, voxels: np.ndarray) -> None:
    """Refuse an image with values that are no numbers.

    Args:
        path: the file that they come from.
        voxels: what was read of it.

    Raises:
        InputError: if a value is NaN or infinite.
    """
    if not np.isfinite(voxels).all():
        raise InputError(f"{path}: holds NaN or infinite values, which nnU-Net refuses: replace them")


Grid = sitk.Image | sitk.ImageFileReader
"""What has a size, a spacing (mm), an origin (mm) and a direction: an image, or a reader that has read its header."""


def read_header(path: Path) -> sitk.ImageFileReader:
    """Read an image's grid without its voxels.

    Raises:
        InputError: if it cannot be read, or is not one volume of numbers in space.
    """
    check_header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    _sheared_too(path, reader.ReadImageInformation)
    numbers = np.abs([*reader.GetSpacing(), *reader.GetOrigin(), *reader.GetDirection()])
    if not 2 <= reader.GetDimension() <= 4:
        raise InputError(
            f"{path}: {reader.GetDimension()} dimensions, expected 2, 3, or 4 with the channels: convert it"
        )
    if min(reader.GetSize()) < 1 or min(reader.GetSpacing()) <= 0 or not np.isfinite(numbers).all():
        raise InputError(
            f"{path}: size {reader.GetSize()}, spacing {_rounded(reader.GetSpacing())} mm, origin "
            f"{_rounded(reader.GetOrigin())} mm: not a volume in space: export it again"
        )
    if path.name.endswith(FILE_ENDINGS) and reader.GetNumberOfComponents() > 1:
        raise InputError(
            f"{path}: {reader.GetNumberOfComponents()} values per voxel, such as colours, expected one: convert it, "
            "with one file per channel"
        )
    return reader


def grid_difference(image: Grid, other: Grid) -> str | None:
    """Name the first difference of two grids, such as "shape (4, 4, 4) and (4, 4, 5)"; None where they agree.

    Headers hold 32-bit floats, and each program rounds in its own way. Grids therefore agree where spacings differ by a
    factor of at most 1 + 1e-4, origins by 1 % of a voxel and directions by 1e-4. Vectors are in the order x, y, z.
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


def _sheared_too(path: Path, read: Callable[[], Read]) -> Read:
    """What ``read`` gives, also of a NIfTI file whose axes are not at right angles, which nnU-Net reads with nibabel.

    Its spacing is that of the header, and its axes are the nearest ones at right angles.

    Raises:
        InputError: if SimpleITK cannot read it.
    """
    try:
        try:
            return read()
        except RuntimeError as error:
            if "orthonormal" not in str(error):
                raise
        # For this file alone: nnU-Net's choice of a reader goes by what SimpleITK refuses.
        os.environ[_PERMISSIVE] = "1"
        try:
            return read()
        finally:
            del os.environ[_PERMISSIVE]
    except RuntimeError as error:
        raise InputError(
            f"{path}: not a readable image ({last_line(error)}): replace the file by an intact one"
        ) from error
