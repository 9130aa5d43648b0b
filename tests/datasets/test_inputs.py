"""Finding cases in folders and among single files."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

from missu_nnunet.datasets.inputs import find_cases
from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.dataset import RawDataset


def dataset(*channels: str, ending: str = ".nii.gz") -> RawDataset:
    labels = {"liver": (1,)}
    return RawDataset(Path("model"), channels, labels, frozenset({0, 1}), None, ending)


def write(file: Path, shape: tuple[int, ...] = (2, 3, 4), kind: type = np.float32) -> Path:
    file.parent.mkdir(exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros(shape, kind)), str(file))
    return file


def test_a_folder_of_two_channels(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{case}_000{channel}.nii.gz") for case in ("b", "a") for channel in (1, 0)]
    (tmp_path / "notes.txt").touch()
    (tmp_path / "._a_0000.nii.gz").touch()
    found = find_cases([tmp_path], dataset("T1", "T2"), SimpleITKIO())
    assert list(found) == ["a", "b"]
    assert found["a"] == sorted(files[2:])


def test_single_files_of_any_name(tmp_path: Path) -> None:
    plain, numbered = write(tmp_path / "scan.nii.gz"), write(tmp_path / "other_0000.nii.gz")
    assert find_cases([plain, numbered], dataset("CT"), SimpleITKIO()) == {"other": [numbered], "scan": [plain]}


def test_channels_as_single_files(tmp_path: Path) -> None:
    files = [write(tmp_path / f"a_000{channel}.nii.gz") for channel in (0, 1)]
    assert find_cases(files[::-1], dataset("T1", "T2"), SimpleITKIO()) == {"a": files}


def test_channels_from_several_folders(tmp_path: Path) -> None:
    files = [write(tmp_path / "b" / "x_0000.nii.gz"), write(tmp_path / "a" / "x_0001.nii.gz")]
    assert find_cases(files, dataset("T1", "T2"), SimpleITKIO()) == {"x": files}
    twin = write(tmp_path / "a" / "x_0000.nii.gz")
    with pytest.raises(InputError, match=r"a/x_0000\.nii\.gz: x is given twice"):
        find_cases([*files, twin], dataset("T1", "T2"), SimpleITKIO())


@pytest.mark.parametrize(
    ("shape", "ending", "reader"),
    [
        ((3, 4), ".png", NaturalImage2DIO()),
        ((2, 3, 4), ".tiff", Tiff3DIO()),
        ((2, 3, 4), ".gipl", SimpleITKIO()),
        ((2, 3, 4), ".nrrd", SimpleITKIO()),
    ],
)
def test_channels_as_files_of_any_format(shape: tuple[int, ...], ending: str, reader: object, tmp_path: Path) -> None:
    files = [write(tmp_path / f"a_000{channel}{ending}", shape, np.uint8) for channel in (0, 1)]
    assert find_cases([tmp_path], dataset("DAPI", "GFP", ending=ending), reader) == {"a": files}


def test_a_tiff_file_whose_spacing_nnunet_would_not_find(tmp_path: Path) -> None:
    """It drops ``_0000.tif`` from the name, whatever stands there."""
    file = write(tmp_path / "scan12.tif", kind=np.uint8)
    assert find_cases([file], dataset("CT", ending=".tif"), Tiff3DIO()) == {"scan12": [file]}
    (tmp_path / "scan12.json").write_text('{"spacing": [3, 1, 1]}')
    with pytest.raises(InputError, match=r"scan12.tif: its spacing is in scan12.json, .* as scan12_0000.tif; rename"):
        find_cases([file], dataset("CT", ending=".tif"), Tiff3DIO())


def test_a_photograph_has_its_colours_in_one_file(tmp_path: Path) -> None:
    rgb = dataset("R", "G", "B", ending=".png")
    colours = sitk.GetImageFromArray(np.zeros((4, 5, 3), np.uint8), isVector=True)
    sitk.WriteImage(colours, str(tmp_path / "photo_0000.png"))
    assert find_cases([tmp_path], rgb, NaturalImage2DIO()) == {"photo": [tmp_path / "photo_0000.png"]}
    grey = write(tmp_path / "grey.png", (4, 5), np.uint8)
    with pytest.raises(InputError, match=r"found grey.png of grey, together 1 channel, expected 3 \(R, G, B\)"):
        find_cases([grey], rgb, NaturalImage2DIO())


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        (["a_0000.nii.gz"], ["nowhere"], "nowhere: no such file or folder"),
        ([], ["."], "no image found, expected files ending in _0000.nii.gz"),
        (["a_0000.nii.gz"], ["."], "found a_0000.nii.gz of a, together 1 channel, expected 2 .T1, T2., named"),
        (["a_0001.nii.gz", "a_0002.nii.gz"], ["."], "expected 2 .T1, T2., named as a_0000.nii.gz"),
        (["scan.nii.gz"], ["."], "scan.nii.gz without a channel's number"),
        (["scan.nii.gz"], ["scan.nii.gz"], "together 1 channel, expected 2"),
        (["a_0000.nii"], ["a_0000.nii"], "expected an image file ending in .nii.gz"),
        (["a_0000.nii.gz"], ["a_0000.nii.gz", "a_0000.nii.gz"], "a is given twice"),
        (["_0000.nii.gz", "_0001.nii.gz"], ["."], "_0000.nii.gz: no name of a case, expected names such as case_0000"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(
    tmp_path: Path, names: list[str], arguments: list[str], message: str
) -> None:
    for name in names:
        write(tmp_path / name)
    with pytest.raises(InputError, match=message) as error:
        find_cases([tmp_path / argument for argument in arguments], dataset("T1", "T2"), SimpleITKIO())
    assert "\n" not in str(error.value)


def test_all_channels_in_one_file_must_be_split(tmp_path: Path) -> None:
    """nnU-Net reads them, but cannot write the segmentation."""
    volumes = [sitk.GetImageFromArray(np.zeros((2, 3, 4), np.float32))] * 2
    sitk.WriteImage(sitk.JoinSeries(volumes), str(tmp_path / "scan.nii.gz"))
    with pytest.raises(InputError, match=r"scan\.nii\.gz: 4 dimensions, expected one channel per file: split it"):
        find_cases([tmp_path / "scan.nii.gz"], dataset("T1", "T2"), SimpleITKIO())


def test_channels_on_other_grids_and_broken_files(tmp_path: Path) -> None:
    write(tmp_path / "a_0000.nii.gz")
    write(tmp_path / "a_0001.nii.gz", (2, 3, 5))
    with pytest.raises(InputError, match=r"a_0001\.nii\.gz: shape .* of the channels differ"):
        find_cases([tmp_path], dataset("T1", "T2"), SimpleITKIO())
    (tmp_path / "a_0001.nii.gz").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"a_0001\.nii\.gz: not a readable image"):
        find_cases([tmp_path], dataset("T1", "T2"), SimpleITKIO())
