"""Images that are whole, cut short, or not images at all."""

import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from missu_nnunet.datasets.images import FILE_ENDINGS, read_image
from missu_nnunet.errors import InputError


def write_image(file: Path) -> np.ndarray:
    voxels = np.random.default_rng(0).normal(size=(20, 21, 22)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file))
    return voxels


@pytest.mark.parametrize("ending", FILE_ENDINGS)
def test_a_whole_image_is_read(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"scan{ending}"
    voxels = write_image(file)
    assert np.array_equal(sitk.GetArrayFromImage(read_image(file)), voxels)


@pytest.mark.parametrize("ending", FILE_ENDINGS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_an_image_cut_short_is_refused_with_its_name(ending: str, share: float, tmp_path: Path) -> None:
    file = tmp_path / f"scan{ending}"
    write_image(file)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=rf"^{re.escape(str(file))}: (damaged or cut short|not a readable image)"):
        read_image(file)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scan\.nii\.gz: no such file"):
        read_image(tmp_path / "scan.nii.gz")
