"""The viewer's data: slice numbers of a volume of which a part is shown, and labels of any size."""

import base64
import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from result_folders import write_dataset_json

from missu_nnunet.evaluation.protocols import NNUNET
from missu_nnunet.evaluation.results import gather_results
from missu_nnunet.report.cases import read_case
from missu_nnunet.report.stills import picture_rows
from missu_nnunet.report.viewer import viewer_case

SIZE = 130  # voxels along each axis, which together are too many to be shown


def write(array: np.ndarray, file: Path, direction: str) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(direction))
    file.parent.mkdir(exist_ok=True)
    sitk.WriteImage(image, str(file))


def test_a_cropped_volume_is_numbered_as_its_file_is(tmp_path: Path) -> None:
    labels = np.zeros((SIZE, SIZE, SIZE), np.uint8)
    labels[84, 20:30, 40:50] = 1  # the 85th slice of the file
    for folder in ("predictions", "references"):
        write(labels, tmp_path / folder / "case.nii.gz", "LPI")
    write(labels, tmp_path / "images" / "case_0000.nii.gz", "LPI")
    results = gather_results([tmp_path / "predictions"], NNUNET, references=tmp_path / "references")
    volumes = read_case(results, "case", [tmp_path / "images"], ["CT"])
    assert volumes.reference.shape[0] < SIZE
    assert picture_rows("case", volumes, results.labels, None)[0].title == "axial 85"
    shown = viewer_case(volumes, results.labels)
    index = int(np.flatnonzero(volumes.reference.any(axis=(1, 2)))[0])
    assert shown["numbers"][0][index] == 85
    assert list(shown["sizes"]) == [SIZE] * 3
    assert shown["marks"][0] == ("R", "L", "A", "P")
    assert shown["cropped"]


@pytest.mark.parametrize("ending", [".tif", ".tiff"])
def test_a_tiff_volume_has_the_spacing_beside_its_image(tmp_path: Path, ending: str) -> None:
    labels = np.ones((6, 4, 5), np.uint8)
    for folder, name in (("predictions", "case"), ("references", "case"), ("images", "case_0000")):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / f"{name}{ending}", labels)
    (tmp_path / "images" / "case.json").write_text('{"spacing": [5, 0.5, 0.8]}')
    write_dataset_json(tmp_path, ending=ending)
    results = gather_results([tmp_path / "predictions"], NNUNET, references=tmp_path / "references")
    volumes = read_case(results, "case", [tmp_path / "images"], ["CT"])
    assert volumes.channels.keys() == {"CT"}
    assert volumes.geometry.spacing == (5, 0.5, 0.8)


def test_labels_above_255(tmp_path: Path) -> None:
    labels = np.zeros((20, 20, 20), np.uint16)
    labels[2:9, 2:9, 2:9], labels[11:18, 11:18, 11:18] = 256, 300
    for folder in ("predictions", "references"):
        write(labels, tmp_path / folder / "case.nii.gz", "LPS")
    results = gather_results([tmp_path / "predictions"], NNUNET, references=tmp_path / "references")
    shown = viewer_case(read_case(results, "case", [], []), results.labels)
    for segmentation in shown["segmentations"]:
        voxels = np.frombuffer(gzip.decompress(base64.b64decode(segmentation["data"])), "<u2")
        assert np.array_equal(voxels, labels.ravel())
        assert len(segmentation["surfaces"]) == 2
