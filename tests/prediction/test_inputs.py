"""Finding cases in folders and among single files."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.dataset import RawDataset
from missu_nnunet.prediction.inputs import find_cases


def dataset(*channels: str, ending: str = ".nii.gz") -> RawDataset:
    labels = {"liver": (1,)}
    return RawDataset(Path("model"), channels, labels, frozenset({0, 1}), None, ending)


def write(file: Path, shape: tuple[int, int, int] = (2, 3, 4)) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros(shape, np.float32)), str(file))
    return file


def test_a_folder_of_two_channels(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{case}_000{channel}.nii.gz") for case in ("b", "a") for channel in (1, 0)]
    (tmp_path / "notes.txt").touch()
    (tmp_path / "._a_0000.nii.gz").touch()
    found = find_cases([tmp_path], dataset("T1", "T2"))
    assert list(found) == ["a", "b"]
    assert found["a"] == sorted(files[2:])


def test_single_files_of_any_name(tmp_path: Path) -> None:
    plain, numbered = write(tmp_path / "scan.nii.gz"), write(tmp_path / "other_0000.nii.gz")
    assert find_cases([plain, numbered], dataset("CT")) == {"other": [numbered], "scan": [plain]}


def test_channels_as_single_files(tmp_path: Path) -> None:
    files = [write(tmp_path / f"a_000{channel}.nii.gz") for channel in (0, 1)]
    assert find_cases(files[::-1], dataset("T1", "T2")) == {"a": files}


def test_colours_of_a_photograph_are_one_file(tmp_path: Path) -> None:
    file = tmp_path / "photo_0000.png"
    file.touch()
    assert find_cases([tmp_path], dataset("R", "G", "B", ending=".png")) == {"photo": [file]}


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        (["a_0000.nii.gz"], ["nowhere"], "nowhere: no such file or folder"),
        ([], ["."], "no image found, expected files ending in _0000.nii.gz"),
        (["a_0000.nii.gz"], ["."], "found a_0000.nii.gz of a, expected 2 channels .T1, T2., as in a_0001.nii.gz"),
        (["a_0001.nii.gz", "a_0002.nii.gz"], ["."], "expected 2 channels"),
        (["scan.nii.gz"], ["."], "scan.nii.gz without a channel's number"),
        (["scan.nii.gz"], ["scan.nii.gz"], "expected 2 channels"),
        (["a_0000.nii"], ["a_0000.nii"], "trained on files ending in .nii.gz"),
        (["a_0000.nii.gz"], ["a_0000.nii.gz", "a_0000.nii.gz"], "a is given twice"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(
    tmp_path: Path, names: list[str], arguments: list[str], message: str
) -> None:
    for name in names:
        write(tmp_path / name)
    with pytest.raises(InputError, match=message) as error:
        find_cases([tmp_path / argument for argument in arguments], dataset("T1", "T2"))
    assert "\n" not in str(error.value)


def test_channels_on_other_grids_and_broken_files(tmp_path: Path) -> None:
    write(tmp_path / "a_0000.nii.gz")
    write(tmp_path / "a_0001.nii.gz", (2, 3, 5))
    with pytest.raises(InputError, match=r"a_0001\.nii\.gz: shape .* of the channels differ"):
        find_cases([tmp_path], dataset("T1", "T2"))
    (tmp_path / "a_0001.nii.gz").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"a_0001\.nii\.gz: not a readable image"):
        find_cases([tmp_path], dataset("T1", "T2"))
