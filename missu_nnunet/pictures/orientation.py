"""The convention of all pictures: oriented as in radiology, marked, and with slices counted as in the file.

Volumes are turned to LPS: in axial slices the patient's right is on the left and anterior is up; in the other planes
superior is up. Slices are numbered from 1 in the order of the file's voxels, as image viewers number them, however the
picture was turned or cropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

_PLANE_ACROSS = {"S": "axial", "I": "axial", "P": "coronal", "A": "coronal", "L": "sagittal", "R": "sagittal"}
_OPPOSITE = dict(zip("LRPASI", "RLAPIS", strict=True))
_LPS = "LPS"


class Marks(NamedTuple):
    """The letters of the directions at the sides of a picture, such as R, L, A and P."""

    left: str
    right: str
    top: str
    bottom: str


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a turned volume lie; axes are in the order z, y, x.

    Attributes:
        shape: voxels of the whole image along each axis.
        spacing: mm per voxel along each axis.
        ends: the direction in which each axis ends, ("S", "P", "L") for a turned volume; empty for a 2D image.
        reverse: for each axis, whether the file counts it from the other end.
        start: index of the first voxel that is shown, along each axis.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    ends: tuple[str, ...] = ()
    reverse: tuple[bool, ...] = (False, False, False)
    start: tuple[int, ...] = (0, 0, 0)

    @property
    def planes(self) -> tuple[str, ...]:
        """The planes to draw, by the axis that they cut: three of a volume, one of a single slice."""
        if self.shape[0] == 1:
            return ("image",)
        return tuple(_PLANE_ACROSS[end] for end in self.ends)

    def cropped(self, box: Sequence[slice]) -> Geometry:
        """Return the geometry of a part of the volume."""
        start = tuple(
            first + part.indices(size)[0] for first, part, size in zip(self.start, box, self.shape, strict=True)
        )
        return replace(self, start=start)

    def slice_number(self, axis: int, index: int) -> int:
        """Return the number, from 1 in the file's order, of the slice at an index of the part that is shown."""
        position = self.start[axis] + index
        return self.shape[axis] - position if self.reverse[axis] else position + 1

    def marks(self, axis: int) -> Marks | None:
        """Return the marks of a slice across an axis, as ``pictures.slices.cut`` takes it; None for 2D images."""
        if not self.ends:
            return None
        rows, columns = (end for other, end in enumerate(self.ends) if other != axis)
        top, bottom = (_OPPOSITE[rows], rows) if axis == 0 else (rows, _OPPOSITE[rows])
        return Marks(_OPPOSITE[columns], columns, top, bottom)

    def plane_spacing(self, axis: int) -> tuple[float, ...]:
        """Return the spacing (mm) of the rows and columns of a slice across an axis."""
        return tuple(step for other, step in enumerate(self.spacing) if other != axis)


def orientation_code(image: sitk.Image | sitk.ImageFileReader) -> str | None:
    """Return the directions of an image's axes x, y and z, such as "LPS"; None for 2D images."""
    if image.GetDimension() != 3:
        return None
    code: str = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
    return code


def oriented(image: sitk.Image, taken_as: str | None = None) -> tuple[NDArray[Any], Geometry]:
    """Turn an image to LPS, and return its values ``(Z, Y, X)`` and geometry; colours become their mean.

    Args:
        image: image in 3D, or in 2D, whose values are ``(1, Y, X)``.
        taken_as: directions of the axes, such as "RAS", to assume instead of the header's. The result is what a program
            sees that expects them and ignores the header; the marks remain the header's.
    """
    code = orientation_code(image)
    if code is None:
        array = _grey_values(sitk.JoinSeries(image))
        return array, Geometry(array.shape, (1.0, *image.GetSpacing()[::-1]))
    taken_as = taken_as or code
    turned = sitk.Image(image)
    turned.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(taken_as))
    turned = sitk.DICOMOrient(turned, _LPS)
    array = _grey_values(turned)
    ends, reverse = [], []
    for direction in _LPS[::-1]:
        axis = next(axis for axis, letter in enumerate(taken_as) if letter in (direction, _OPPOSITE[direction]))
        reverse.append(taken_as[axis] != direction)
        ends.append(_OPPOSITE[code[axis]] if reverse[-1] else code[axis])
    return array, Geometry(array.shape, turned.GetSpacing()[::-1], tuple(ends), tuple(reverse))


def oriented_labels(image: sitk.Image, taken_as: str | None = None) -> tuple[NDArray[np.uint16], Geometry]:
    """Turn a segmentation as ``oriented`` turns images, and return its labels and geometry."""
    array, geometry = oriented(image, taken_as)
    return np.nan_to_num(array).astype(np.uint16), geometry


def _grey_values(image: sitk.Image) -> NDArray[Any]:
    array = sitk.GetArrayFromImage(image)
    return array.mean(axis=-1) if image.GetNumberOfComponentsPerPixel() > 1 else array
