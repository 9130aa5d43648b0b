"""Reads a folder of DICOM slices as one volume, in which every slice stands at its own position.

The distance between slices is that of their positions, not ``SliceThickness``, which may differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk

from missu_nnunet.datasets.images import read_image
from missu_nnunet.errors import InputError

_GEOMETRY = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2, "Rows": 1, "Columns": 1}
"""How many numbers each of the tags has that give a slice its place."""


@dataclass(frozen=True)
class Series:
    """The geometry of a folder of slices.

    Attributes:
        files: the slices, by ascending position along the normal of their plane.
        order: for each of these, its index among the slices in the order of their file names.
        grid: an empty image with the volume's size, spacing (mm), origin (mm, LPS) and direction.
    """

    files: tuple[Path, ...]
    order: tuple[int, ...]
    grid: sitk.Image


def read_series(files: Sequence[Path]) -> Series:
    """Read the headers of slices, and put the slices in order.

    Args:
        files: all slices of a series.

    Raises:
        InputError: if a file is not DICOM, its header gives it no place in space, slices differ in size, orientation or
            pixel spacing, belong to several series, share a position, are missing, or are sheared.
    """
    files = sorted(files, key=file_order)
    if len(files) < 2:
        raise InputError(f"{files[0]}: the only slice of its folder, expected a series: unpack the download again")
    headers = [_read_header(file) for file in files]
    _refuse_mixed_series(files, headers)
    first = headers[0]
    rows = np.array(first.ImageOrientationPatient, dtype=float).reshape(2, 3)
    axis_x = rows[0] / np.linalg.norm(rows[0])
    axis_y = rows[1] - (rows[1] @ axis_x) * axis_x  # headers round: make the directions exactly orthogonal
    axis_y /= np.linalg.norm(axis_y)
    normal = np.cross(axis_x, axis_y)

    origins = np.array([header.ImagePositionPatient for header in headers], dtype=float)
    order = np.argsort(origins @ normal, kind="stable")
    origins, positions = origins[order], (origins @ normal)[order]
    steps = np.diff(positions)
    step = (positions[-1] - positions[0]) / (len(files) - 1)
    usual = float(np.median(steps))
    for index, found in enumerate(steps):
        pair = f"{files[order[index]]} and {files[order[index + 1]].name}"
        if found < 0.01:
            raise InputError(
                f"{pair}: two slices at one position, expected one series per folder: remove the other one"
            )
        if abs(found - usual) > 0.25 * usual:  # headers round
            raise InputError(
                f"{pair}: {found:.2f} mm apart where the other slices are {usual:.2f} mm apart: a slice is missing or "
                "does not belong here; unpack the download again"
            )
    pixel_height, pixel_width = (float(value) for value in first.PixelSpacing)
    drift = origins[-1] - origins[0] - (positions[-1] - positions[0]) * normal
    if np.linalg.norm(drift) > 0.5 * min(pixel_height, pixel_width):
        raise InputError(
            f"{files[0].parent}: the slices shift by {np.linalg.norm(drift):.2f} mm within their plane (a tilted "
            "gantry), expected a stack at right angles, as nnU-Net needs: resample the series first"
        )

    grid = sitk.Image(int(first.Columns), int(first.Rows), len(files), sitk.sitkUInt8)
    grid.SetSpacing((pixel_width, pixel_height, float(step)))
    grid.SetOrigin(origins[0].tolist())
    grid.SetDirection(np.column_stack([axis_x, axis_y, normal]).ravel().tolist())
    return Series(tuple(files[index] for index in order), tuple(int(index) for index in order), grid)


def read_volume(series: Series) -> sitk.Image:
    """Read the series' values, slope and intercept applied (HU for CT); 16-bit integers where that loses nothing.

    Raises:
        InputError: if a file cannot be read, or is not one slice of the size that its header says.
    """
    columns, rows, _ = series.grid.GetSize()
    slices = []
    for file in series.files:
        image = read_image(file)
        if image.GetSize() != (columns, rows, 1) or image.GetNumberOfComponentsPerPixel() > 1:
            raise InputError(
                f"{file}: {'×'.join(map(str, image.GetSize()))} pixels of {image.GetNumberOfComponentsPerPixel()} "
                f"value(s), expected {columns}×{rows}×1 of one: export the slices one per file, in shades of grey"
            )
        slices.append(sitk.GetArrayFromImage(image).squeeze(0))
    volume = np.stack(slices).astype(np.float32)
    whole = np.rint(volume)
    if np.array_equal(whole, volume) and whole.min() >= -32768 and whole.max() <= 32767:
        volume = whole.astype(np.int16)
    return on_grid(volume, series)


def file_order(file: Path) -> list[int | str]:
    """Return a key that sorts the numbers in file names by value, as the organisers' natural sort does."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)]


def on_grid(array: np.ndarray, series: Series) -> sitk.Image:
    """Make an image of the voxels ``(D, H, W)`` on the series' grid."""
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(series.grid)
    return image


def _read_header(file: Path) -> pydicom.Dataset:
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True)
        values = {tag: header.get(tag) for tag in (*_GEOMETRY, "RescaleSlope", "RescaleIntercept")}
    except Exception as error:  # pydicom decodes a value when asked for it, and raises whatever it likes
        raise InputError(f"{file}: not a readable DICOM file ({error}): unpack the download again") from error
    for tag, value in values.items():
        if value is None and tag in _GEOMETRY:
            raise InputError(f"{file}: no {tag} in its header, expected a slice of a CT or MR series")
        if value is not None and not _is_usable(tag, value):
            raise InputError(
                f"{file}: {tag} is {value}, expected {_GEOMETRY.get(tag, 1)} number(s) as a slice of a CT or MR series "
                "has there: export it again"
            )
    return header


def _is_usable(tag: str, value: Any) -> bool:
    """Whether a value has as many numbers as it should, and such as a volume can have."""
    try:
        numbers = np.array(value, dtype=float).ravel()
    except (TypeError, ValueError):
        return False
    if len(numbers) != _GEOMETRY.get(tag, 1) or not (np.abs(numbers) < 1e9).all():  # false of NaN too
        return False
    if tag == "ImageOrientationPatient":
        rows = numbers.reshape(2, 3)
        return np.allclose(rows @ rows.T, np.eye(2), atol=0.1)  # headers round
    return tag not in ("PixelSpacing", "Rows", "Columns") or bool((numbers > 0).all())


def _refuse_mixed_series(files: Sequence[Path], headers: Sequence[pydicom.Dataset]) -> None:
    checks: dict[str, Callable[[pydicom.Dataset], Any]] = {
        "size": lambda header: (header.Rows, header.Columns),
        "orientation": lambda header: np.round(np.array(header.ImageOrientationPatient, float), 3).tolist(),
        "pixel spacing": lambda header: np.round(np.array(header.PixelSpacing, float), 4).tolist(),
    }
    for name, value_of in checks.items():
        expected = value_of(headers[0])
        for file, header in zip(files, headers, strict=True):
            if value_of(header) != expected:
                raise InputError(
                    f"{file}: {name} {value_of(header)}, expected {expected} as in {files[0].name}: slices of several "
                    "series lie in this folder; keep one"
                )
    uids = {str(header.get("SeriesInstanceUID")) for header in headers}
    # Anonymisers may give every file a UID of its own; several files of each of several series are another thing.
    if 1 < len(uids) < len(files):
        raise InputError(f"{files[0].parent}: slices of {len(uids)} series (by their UID), expected one: keep one")
