"""Reading images, and telling whether two lie on the same grid."""

from __future__ import annotations

import zlib
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from missu_nnunet.errors import InputError

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
