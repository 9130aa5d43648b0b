"""Damaged and hostile image files: each ends in one line, quickly and without much memory."""

import gzip
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

from missu_nnunet.datasets.headers import check_header, nifti_voxels
from missu_nnunet.datasets.images import read_header, read_image
from missu_nnunet.datasets.readers import read_channels
from missu_nnunet.errors import InputError

VOXELS = np.random.default_rng(0).integers(0, 100, (4, 6, 8)).astype(np.int16)
READERS = {".nii": NibabelIO, ".png": NaturalImage2DIO, ".bmp": NaturalImage2DIO, ".tiff": Tiff3DIO}

Damage = Callable[[bytearray], object]


def put(offset: int, kind: str, *values: float) -> Damage:
    """Write numbers over a header."""
    return lambda content: struct.pack_into(f"<{kind}", content, offset, *values)


def swap(old: bytes, new: bytes) -> Damage:
    def change(content: bytearray) -> None:
        assert old in content
        content[:] = content.replace(old, new)

    return change


def cut(share: float) -> Damage:
    return lambda content: content.__delitem__(slice(int(len(content) * share), None))


def wide(content: bytearray) -> None:
    """A PNG that claims 100,000 × 100,000 pixels, with the right checksum."""
    struct.pack_into(">II", content, 16, 100_000, 100_000)
    struct.pack_into(">I", content, 29, zlib.crc32(bytes(content[12:29])))


NAN, INFINITE = float("nan"), float("inf")
NIFTI: dict[str, Damage] = {
    "empty": cut(0),
    "header cut": cut(0.2),
    "voxels cut": cut(0.9),
    "no dimensions": put(40, "h", 0),
    "9 dimensions": put(40, "h", 9),
    "30000 dimensions": put(40, "h", 30000),
    "-3 dimensions": put(40, "h", -3),
    "1 dimension": put(40, "h", 1),
    "3000³ voxels": put(42, "hhh", 3000, 3000, 3000),
    "32000³ voxels": put(42, "hhh", 32000, 32000, 32000),
    "-5 voxels": put(42, "h", -5),
    "0 voxels": put(42, "h", 0),
    "negative spacing": put(80, "f", -1),
    "zero spacing": put(80, "f", 0),
    "no spacing": put(80, "f", NAN),
    "infinite spacing": put(80, "f", INFINITE),
    "datatype 999": put(70, "h", 999),
    "colours": put(70, "hh", 128, 24),
    "complex": put(70, "hh", 32, 64),
    "bits": put(70, "hh", 1, 1),
    "scl_inter NaN": put(112, "ff", 1, NAN),
    "scl_inter infinite": put(112, "ff", 2, INFINITE),
    "offset negative": put(108, "f", -5),
    "offset NaN": put(108, "f", NAN),
    "offset behind the end": put(108, "f", 1e9),
    "another magic": put(344, "4s", b"abcd"),
    "half of a pair": put(344, "4s", b"ni1\0"),
    "text": lambda content: content.__setitem__(slice(None), b"this is no image"),
}
OTHERS: dict[str, dict[str, Damage]] = {
    ".nrrd": {
        "empty": cut(0),
        "header cut": cut(0.1),
        "voxels cut": cut(0.9),
        "3000³ voxels": swap(b"sizes: 8 6 4", b"sizes: 3000 3000 3000"),
        "32000³ voxels": swap(b"sizes: 8 6 4", b"sizes: 32000 32000 32000"),
        "-8 voxels": swap(b"sizes: 8 6 4", b"sizes: -8 6 4"),
        "0 voxels": swap(b"sizes: 8 6 4", b"sizes: 0 6 4"),
        "300 dimensions": swap(b"dimension: 3", b"dimension: 300"),
        "no spacing": swap(b"(1,0,0)", b"(nan,0,0)"),
        "zero spacing": swap(b"(1,0,0)", b"(0,0,0)"),
        "another type": swap(b"type: short", b"type: block"),
        "voxels in another file": swap(b"\nsizes", b"\ndata file: /etc/passwd\nsizes"),
        "voxels in another file, in capitals": swap(b"\nsizes", b"\nData File: /etc/passwd\nsizes"),
        "voxels in another file, in one word": swap(b"\nsizes", b"\n\tDATAFILE: /etc/passwd\nsizes"),
        "no end": lambda content: content.__setitem__(slice(0, 0), b"NRRD0004\n" + b"#\n" * 2**19),
    },
    ".mha": {
        "empty": cut(0),
        "header cut": cut(0.1),
        "voxels cut": cut(0.9),
        "3000³ voxels": swap(b"DimSize = 8 6 4", b"DimSize = 3000 3000 3000"),
        "32000³ voxels": swap(b"DimSize = 8 6 4", b"DimSize = 32000 32000 32000"),
        "-8 voxels": swap(b"DimSize = 8 6 4", b"DimSize = -8 6 4"),
        "0 voxels": swap(b"DimSize = 8 6 4", b"DimSize = 0 6 4"),
        "300 dimensions": swap(b"NDims = 3", b"NDims = 300"),  # ends a process that lets ITK read it
        "no spacing": swap(b"ElementSpacing = 1 1 1", b"ElementSpacing = nan 1 1"),
        "zero spacing": swap(b"ElementSpacing = 1 1 1", b"ElementSpacing = 0 1 1"),
        "negative spacing": swap(b"ElementSpacing = 1 1 1", b"ElementSpacing = -1 1 1"),
        "another type": swap(b"MET_SHORT", b"MET_OTHER"),
        "voxels in another file": swap(b"ElementDataFile = LOCAL", b"ElementDataFile = /etc/passwd"),
        "voxels in another file by a colon": swap(
            b"ElementDataFile", b"ElementDataFile : /etc/passwd\nElementDataFile"
        ),
    },
    ".gipl": {
        "empty": cut(0),
        "header cut": cut(0.02),
        "voxels cut": cut(0.9),
        "30000³ voxels": lambda content: struct.pack_into(">HHH", content, 0, 30000, 30000, 30000),
        "another type": lambda content: struct.pack_into(">H", content, 8, 999),
    },
    ".png": {"empty": cut(0), "header cut": cut(0.1), "cut": cut(0.6), "too wide": wide, "EPS": put(0, "4s", b"%!PS")},
    ".bmp": {"empty": cut(0), "header cut": cut(0.01), "cut": cut(0.6)},
    ".tiff": {"empty": cut(0), "header cut": cut(0.01), "cut": cut(0.6)},
}
TABLE = [
    *((".nii", name, damage) for name, damage in NIFTI.items()),
    *((".nii.gz", name, damage) for name, damage in NIFTI.items()),
    *((ending, name, damage) for ending, damages in OTHERS.items() for name, damage in damages.items()),
]


def good(folder: Path, ending: str) -> Path:
    file = folder / f"scan{ending}"
    if ending == ".tiff":
        tifffile.imwrite(file, VOXELS, photometric="minisblack")
    else:
        voxels = VOXELS[0].astype(np.uint8) if ending in (".png", ".bmp") else VOXELS
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file))
    return file


def read(file: Path, ending: str) -> np.ndarray:
    return read_channels(READERS.get(ending, SimpleITKIO)(), [file])[0]


@pytest.mark.parametrize(("ending", "name", "damage"), TABLE, ids=[f"{ending} {name}" for ending, name, _ in TABLE])
def test_damage_is_one_line(ending: str, name: str, damage: Damage, tmp_path: Path) -> None:
    file = good(tmp_path, ending)
    packed = ending == ".nii.gz"
    content = bytearray(gzip.decompress(file.read_bytes()) if packed else file.read_bytes())
    damage(content)
    file.write_bytes(gzip.compress(content) if packed and content else content)
    with pytest.raises(InputError) as error:
        read(file, ending)
    assert re.fullmatch(rf"{re.escape(str(file))}: \S.*", str(error.value)), error.value


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", *OTHERS])
def test_what_is_whole_is_read(ending: str, tmp_path: Path) -> None:
    values = read(good(tmp_path, ending), ending)
    assert np.array_equal(values[0], VOXELS[:1] if ending in (".png", ".bmp") else VOXELS)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_packed_file_cut_short(share: float, tmp_path: Path) -> None:
    file = good(tmp_path, ".nii.gz")
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with pytest.raises(InputError, match=r"scan.nii.gz: (damaged or cut short|not a readable image)"):
        read_image(file)


def test_a_packed_file_with_a_flipped_bit(tmp_path: Path) -> None:
    """It unpacks to other voxels, which only the checksum tells."""
    file = good(tmp_path, ".nii.gz")
    content = bytearray(gzip.compress(gzip.decompress(file.read_bytes()), compresslevel=0))
    content[-40] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"scan.nii.gz: damaged or cut short \(CRC check failed"):
        nifti_voxels(file)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".png"])
def test_only_regular_files_are_opened(ending: str, tmp_path: Path) -> None:
    pipe, folder, link = (tmp_path / f"{name}{ending}" for name in ("pipe", "folder", "link"))
    os.mkfifo(pipe)
    folder.mkdir()
    link.symlink_to("/dev/zero")
    for path in (pipe, folder, link):
        with pytest.raises(InputError, match="a folder, pipe or device, expected an image file"):
            check_header(path)
    with pytest.raises(InputError, match="no such file"):
        check_header(tmp_path / f"nothing{ending}")


@pytest.mark.parametrize("name", ["photo.png", "scan.mha", "scan.eps"])
@pytest.mark.parametrize("start", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xc5\xd0\xd3\xc6"])
def test_postscript_is_refused_before_a_decoder_runs_it(name: str, start: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(start + b"NDims = 1\nDimSize = 1\nElementDataFile = LOCAL\n")
    with pytest.raises(InputError, match="PostScript, a program"):
        check_header(tmp_path / name)


@pytest.mark.parametrize("ending", [".png", ".PNG", ".bmp", ".jpg", ".NRRD", ".NII.GZ"])
def test_another_format_by_the_name_of_this_one(ending: str, tmp_path: Path) -> None:
    (tmp_path / f"scan{ending}").write_bytes(b"GIF89a" + bytes(400))
    with pytest.raises(InputError, match=r"not a readable image \(no \w+ header\)"):
        check_header(tmp_path / f"scan{ending}")


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    """It ends a process that lets SimpleITK open it."""
    file = good(tmp_path, ".nii.gz").rename(tmp_path / os.fsdecode(b"c\xff.nii.gz"))
    with pytest.raises(InputError, match="a name that is not UTF-8"):
        read_header(file)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((2, 2, 4, 6, 8), "5 dimensions, expected 2, 3, or 4"), ((8,), "1 dimensions, expected 2, 3, or 4")],
)
def test_too_many_and_too_few_dimensions(shape: tuple[int, ...], message: str, tmp_path: Path) -> None:
    file = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones(shape, np.int16), np.eye(4)), file)
    with pytest.raises(InputError, match=message):
        read_header(file)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_colours_in_a_volume(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"scan{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 6, 8, 3), np.uint8), isVector=True), str(file))
    with pytest.raises(InputError, match="3 values per voxel, such as colours, expected one"):
        read_header(file)


@pytest.mark.parametrize(
    "image",
    [
        nibabel.Nifti1Image(VOXELS.T.astype(">i2"), np.eye(4), nibabel.Nifti1Header(endianness=">")),
        nibabel.Nifti1Image(VOXELS.T.astype(np.int64), np.eye(4), dtype=np.int64),
        nibabel.Nifti2Image(VOXELS.T, np.eye(4)),
    ],
    ids=["big-endian", "64 bits", "NIfTI-2"],
)
def test_uncommon_and_sound(image: nibabel.Nifti1Image, tmp_path: Path) -> None:
    nibabel.save(image, tmp_path / "scan.nii.gz")
    assert np.array_equal(nifti_voxels(tmp_path / "scan.nii.gz"), VOXELS)


def test_a_packed_file_by_the_name_of_a_plain_one_and_the_reverse(tmp_path: Path) -> None:
    """SimpleITK reads both, and nnU-Net with it."""
    plain, packed = good(tmp_path, ".nii"), good(tmp_path, ".nii.gz")
    plain.rename(tmp_path / "plain.nii.gz")
    packed.rename(tmp_path / "packed.nii")
    for name in ("plain.nii.gz", "packed.nii"):
        assert np.array_equal(nifti_voxels(tmp_path / name), VOXELS)
    assert np.array_equal(read(tmp_path / "plain.nii.gz", ".nii.gz")[0], VOXELS)
