"""The one convention for whatever is drawn: turned as in radiology, marked, and counted as in the file.

Volumes are turned to LPS: of an axial slice the patient's right is on the left and anterior is up, of the other planes
superior is up. Slices are numbered from 1 in the order of the file's voxels, as viewers of images number them, whatever
the picture was turned or cropped to.
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
    """The directions that the sides of a picture show, such as R, L, A and P."""

    left: str
    right: str
    top: str
    bottom: str


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a turned volume lie; axes are (z, y, x).

    Attributes:
        shape: the whole image's voxels along each axis.
        spacing: mm per voxel along each axis.
        ends: the direction in which each axis ends, ("S", "P", "L") of a turned volume; none of a 2D image.
        reverse: whether the file counts the axis from its other end.
        start: the first voxel of what is shown of the image, along each axis.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    ends: tuple[str, ...] = ()
    reverse: tuple[bool, ...] = (False, False, False)
    start: tuple[int, ...] = (0, 0, 0)

    @property
    def planes(self) -> tuple[str, ...]:
        """The planes worth drawing by the axis they cut: three of a volume, one of an image that is a single slice."""
        if self.shape[0] == 1:
            return ("image",)
        return tuple(_PLANE_ACROSS[end] for end in self.ends)

    def cropped(self, box: Sequence[slice]) -> Geometry:
        """The geometry of a part of the volume."""
        start = tuple(
            first + part.indices(size)[0] for first, part, size in zip(self.start, box, self.shape, strict=True)
        )
        return replace(self, start=start)

    def slice_number(self, axis: int, index: int) -> int:
        """The number, from 1 and in the file's order, of the slice at ``index`` of what is shown."""
        position = self.start[axis] + index
        return self.shape[axis] - position if self.reverse[axis] else position + 1

    def marks(self, axis: int) -> Marks | None:
        """Directions at the sides of a slice across ``axis``, as ``missu_nnunet.pictures.slices.cut`` draws it."""
        if not self.ends:
            return None
        rows, columns = (end for other, end in enumerate(self.ends) if other != axis)
        top, bottom = (_OPPOSITE[rows], rows) if axis == 0 else (rows, _OPPOSITE[rows])
        return Marks(_OPPOSITE[columns], columns, top, bottom)

    def plane_spacing(self, axis: int) -> tuple[float, ...]:
        """The spacing (mm) of the rows and columns of a slice across ``axis``."""
        return tuple(step for other, step in enumerate(self.spacing) if other != axis)


def orientation_code(image: sitk.Image | sitk.ImageFileReader) -> str | None:
    """Where the axes x, y, z of an image point to, "LPS"; None for 2D images."""
    if image.GetDimension() != 3:
        return None
    code: str = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
    return code


def oriented(image: sitk.Image, taken_as: str | None = None) -> tuple[NDArray[Any], Geometry]:
    """The turned image's values, (z, y, x), of a 2D image (1, y, x), and where they lie; colours become their mean.

    Args:
        image: 2D or 3D.
        taken_as: turn the voxels as if the axes pointed there, "RAS": what a program sees that expects this and does
            not look at the header. The marks remain the header's.
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


def oriented_labels(image: sitk.Image, taken_as: str | None = None) -> tuple[NDArray[np.uint8], Geometry]:
    """The turned segmentation's labels, as ``oriented`` turns images."""
    array, geometry = oriented(image, taken_as)
    return np.nan_to_num(array).astype(np.uint8), geometry


def _grey_values(image: sitk.Image) -> NDArray[Any]:
    array = sitk.GetArrayFromImage(image)
    return array.mean(axis=-1) if image.GetNumberOfComponentsPerPixel() > 1 else array
