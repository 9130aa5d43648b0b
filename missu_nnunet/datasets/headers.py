"""Checks what the header of an image file claims before a library believes it.

The libraries that read images allocate as much memory as a header says, fill missing voxels with zeros, follow a header
to other files, or crash.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import struct
import zlib
from collections.abc import Sequence
from io import IOBase
from pathlib import Path
from typing import Literal

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from missu_nnunet.errors import InputError
from missu_nnunet.machine import physical_memory
from missu_nnunet.text import first_line

_REMEDY = "replace the file by an intact one"
_DAMAGED = (OSError, EOFError, ValueError, struct.error, OverflowError, zlib.error, HeaderDataError, WrapStructError)
DEFLATE = 1032
"""No gzip or zip file unpacks to more than this many times its size."""
_CHUNK = 1 << 20  # bytes
_SIGNATURES = {".png": b"\x89PNG\r\n\x1a\n", ".bmp": b"BM", ".jpg": b"\xff\xd8\xff", ".jpeg": b"\xff\xd8\xff"}
_POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")  # text, and the binary header of EPS
_GIPL_BYTES = {7: 1, 8: 1, 15: 2, 16: 2, 31: 4, 32: 4, 64: 4, 65: 8}  # of a voxel, by the header's code


def check_header(path: Path) -> None:
    """Check a file, and its header where the format is NIfTI, NRRD, MetaImage, GIPL, TIFF, PNG, BMP or JPEG.

    Raises:
        InputError: if the file is missing, empty or not a regular file, if its name is not UTF-8, or if its header is
            damaged, of another format, or claims more than the file or this machine's memory can hold.
    """
    if any("\ud800" <= char <= "\udfff" for char in str(path)):  # how Python holds such bytes; SimpleITK aborts
        raise InputError(f"{path}: a name that is not UTF-8, which SimpleITK cannot open: rename the file or folder")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: a folder, pipe or device, expected an image file")
    try:
        if path.stat().st_size == 0:
            raise ValueError("0 bytes")
        ending = path.suffix.lower()
        _check_signature(path, _SIGNATURES.get(ending, b""))
        if is_nifti(path):
            _check_nifti(path)
        elif ending == ".nrrd":
            _check_nrrd(path)
        elif ending == ".mha":
            _check_metaimage(path)
        elif ending == ".gipl":
            _check_gipl(path)
        elif ending in (".tif", ".tiff"):
            _check_tiff(path)
    except _DAMAGED as error:
        raise InputError(f"{path}: not a readable image ({first_line(error)}): {_REMEDY}") from error


def is_nifti(path: Path) -> bool:
    """Whether the name is one of a NIfTI file."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def nifti_voxels(path: Path) -> np.ndarray:
    """Read the voxels of a NIfTI file with nibabel, in SimpleITK's order ``(Z, Y, X)``.

    SimpleITK hides three faults: it turns NaN into 0, fills the missing part of a file that was cut short with 0, and
    does not compare a packed file with its checksum.

    Raises:
        InputError: as for ``check_header``, or if the file was damaged or cut short.
    """
    check_header(path)
    try:
        with _unpacked(path) as stream:
            voxels = np.asarray(_nifti_class(stream).from_stream(stream).dataobj).T
            while stream.read(_CHUNK):  # gzip's checksum is at the end
                pass
            return voxels
    except (*_DAMAGED, MemoryError) as error:
        raise InputError(f"{path}: damaged or cut short ({first_line(error)}): {_REMEDY}") from error


def check_whole(path: Path) -> None:
    """Check the header, and that a NIfTI file has all its voxels; other formats' readers say what is missing.

    Raises:
        InputError: if the file is not whole.
    """
    if is_nifti(path):
        nifti_voxels(path)
    else:
        check_header(path)


def nifti_disagreement(path: Path) -> str | None:
    """Say how qform and sform, the two positions that a NIfTI header gives its voxels, differ; None where they agree.

    A difference of up to a voxel counts as agreement: both are rounded, and a qform cannot shear.

    Raises:
        InputError: as for ``check_header``.
    """
    check_header(path)
    with _unpacked(path) as stream:
        header = _nifti_class(stream).header_class.from_fileobj(stream, check=False)
    try:
        return _disagreement(header)
    except _DAMAGED as error:
        raise InputError(f"{path}: no place in space ({first_line(error)}): {_REMEDY}") from error


def _disagreement(header: nibabel.Nifti1Header) -> str | None:
    size, spacing = np.array(header.get_data_shape()[:3]), np.array(header.get_zooms()[:3], float)
    if len(size) < 3 or header["sform_code"] == 0:
        return None
    sform = header.get_sform()
    lengths = np.linalg.norm(sform[:3, :3], axis=0)
    if not np.allclose(lengths, spacing, rtol=0.01):
        return f"voxels of {_numbers(spacing)} mm by its pixdim and {_numbers(lengths)} mm by its sform"
    if header["qform_code"] == 0:
        return None
    corners = nibabel.affines.apply_affine(np.eye(4), list(np.ndindex(2, 2, 2))) * (size - 1)
    there = nibabel.affines.apply_affine(header.get_qform(), corners)
    distance = np.linalg.norm(there - nibabel.affines.apply_affine(sform, corners), axis=1).max()
    if distance <= spacing.max():
        return None
    codes = ("".join(nibabel.aff2axcodes(affine)) for affine in (header.get_qform(), sform))
    return f"places up to {distance:.4g} mm apart by its qform ({next(codes)}) and its sform ({next(codes)})"


def _unpacked(path: Path) -> IOBase:
    """The file's content, unpacked if it is packed, whatever its name says: SimpleITK does so too."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")


def _nifti_class(stream: IOBase) -> type[nibabel.Nifti1Image]:
    """NIfTI-1 or NIfTI-2, by the header's magic string."""
    start = stream.read(348)
    stream.seek(0)
    if start[344:348] == b"n+1\0":
        return nibabel.Nifti1Image
    if start[4:8] == b"n+2\0":
        return nibabel.Nifti2Image
    raise ValueError("no NIfTI header")


def _check_signature(path: Path, signature: bytes) -> None:
    """Whether a file begins as its format does; PIL goes by the content, and has Ghostscript run PostScript."""
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(_POSTSCRIPT):
        raise ValueError("PostScript, a program")
    if not start.startswith(signature):
        raise ValueError(f"no {path.suffix[1:].upper()} header")


def _check_nifti(path: Path) -> None:
    with _unpacked(path) as stream:
        header = _nifti_class(stream).header_class.from_fileobj(stream, check=False)
    dimensions = int(header["dim"][0])
    if not 1 <= dimensions <= 7:
        raise ValueError(f"{dimensions} dimensions")
    code = int(header["datatype"])
    if code not in nibabel.nifti1.data_type_codes.dtype or (dtype := header.get_data_dtype()).kind not in "iuf":
        raise ValueError(f"voxels of datatype {code}, expected numbers")
    size = [int(length) for length in header["dim"][1 : 1 + dimensions]]
    spacing = [float(step) for step in header["pixdim"][1 : 1 + dimensions]]
    for length, step in zip(size, spacing[:3], strict=False):
        if not (math.isfinite(step) and (step > 0 or length == 1)):
            raise ValueError(f"a spacing of {step:g} mm")
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if math.isfinite(slope) and slope and not math.isfinite(intercept):
        raise ValueError(f"scl_inter is {intercept:g}")
    offset = float(header["vox_offset"])
    if not 0 <= offset < math.inf:
        raise ValueError(f"vox_offset is {offset:g}")
    file_size = path.stat().st_size
    with path.open("rb") as file:
        limit = file_size * DEFLATE if file.read(2) == b"\x1f\x8b" else file_size
    _check_size(size, dtype.itemsize, limit - int(offset))


def _check_nrrd(path: Path) -> None:
    with path.open("rb") as file:
        header, end, _ = file.read(1 << 20).replace(b"\r\n", b"\n").partition(b"\n\n")
    if not header.startswith(b"NRRD"):
        raise ValueError("no NRRD header")
    fields = {}
    for line in header.decode("ascii", "replace").splitlines():
        name, _, value = line.partition(":")
        if not value.startswith("="):  # := stands between a key and a value of the user's own
            fields["".join(name.split()).lower()] = value
    if "datafile" in fields:
        raise ValueError("its voxels lie in another file")
    if not end:
        raise ValueError("a header without an end")
    _check_size(_whole_numbers(fields.get("sizes", "")), 1)


def _check_metaimage(path: Path) -> None:
    fields = {}
    with path.open("rb") as file:
        for line in file.read(1 << 16).split(b"\n"):
            name, *value = re.split("[=:]", line.decode("ascii", "replace"), maxsplit=1)
            fields[name.strip()] = "".join(value).strip()
            if name.strip() == "ElementDataFile":
                break
    if fields.get("ElementDataFile") != "LOCAL":
        raise ValueError("its voxels lie in another file, or nowhere")
    size = _whole_numbers(fields.get("DimSize", ""))
    if fields.get("NDims") != str(len(size)):
        raise ValueError(f"NDims is {fields.get('NDims')}, and DimSize has {len(size)} numbers")
    _check_size(size, 1)


def _check_gipl(path: Path) -> None:
    with path.open("rb") as file:
        header = np.frombuffer(file.read(10), ">u2")
    if len(header) < 5 or int(header[4]) not in _GIPL_BYTES:
        raise ValueError("no GIPL header of numbers")
    _check_size([int(length) or 1 for length in header[:4]], _GIPL_BYTES[int(header[4])], path.stat().st_size - 256)


def _check_tiff(path: Path) -> None:
    """Walk along the pages; tifffile takes very long over a damaged list of tags."""
    size = path.stat().st_size
    with path.open("rb") as file:
        order, version, offset = struct.unpack("<2sHI", file.read(8))
        if order not in (b"II", b"MM"):
            raise ValueError("no TIFF header")
        byte_order: Literal["little", "big"] = "little" if order == b"II" else "big"
        if version not in (42, 42 << 8):  # BigTIFF
            return
        offset = int.from_bytes(offset.to_bytes(4, "little"), byte_order)
        seen: set[int] = set()
        while offset:
            file.seek(offset)
            tags = int.from_bytes(file.read(2), byte_order)
            if offset in seen or not tags or offset + 2 + 12 * tags > size:
                raise ValueError("a damaged list of pages")
            seen.add(offset)
            file.seek(12 * tags, os.SEEK_CUR)
            offset = int.from_bytes(file.read(4), byte_order)


def _check_size(size: Sequence[int], voxel: int, limit: float = math.inf) -> None:
    """Whether a volume fits into this machine's memory, as nnU-Net's 32-bit floats, and into its file.

    Args:
        size: of the axes, in voxels.
        voxel: bytes.
        limit: bytes that the file can hold at most.
    """
    shape = "×".join(map(str, size))
    if not 1 <= len(size) <= 7 or min(size) < 1:
        raise ValueError(f"a size of {shape or 'nothing'} voxels")
    voxels = math.prod(size)
    if voxels * voxel > limit:
        raise ValueError(f"{shape} voxels in its header, more than the file holds: cut short?")
    if (memory := physical_memory()) is not None and 4 * voxels > memory:
        raise ValueError(f"{shape} voxels, {4 * voxels / 1e9:.0f} GB as nnU-Net reads them, of {memory / 1e9:.0f}")


def _whole_numbers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def _numbers(values: np.ndarray) -> str:
    return "×".join(f"{value:.3g}" for value in values)
