"""Which cases have no label, from what nnU-Net's preprocessing writes of them."""

from pathlib import Path

import numpy as np
import pytest
from batchgenerators.utilities.file_and_folder_operations import write_pickle
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from missu_nnunet.nnunet.preprocessed import has_ignored_voxels, unlabelled_cases

IGNORE = 3
CLASSES = {"labels": [1, 2], "regions": [(1, 2), (2,)]}


def label_maps() -> dict[str, np.ndarray]:
    maps = {name: np.full((1, 4, 5, 6), IGNORE) for name in ("nothing", "foreground", "background", "outside")}
    maps["foreground"][0, 0, 0, 0] = 2
    maps["background"][0, 0, 0, 0] = 0
    maps["outside"][0, 0, 0, 0] = -1  # what nnU-Net makes of background where the image is empty
    return maps


def write(folder: Path, collected: list) -> None:
    for name, labels in label_maps().items():
        locations = DefaultPreprocessor._sample_foreground_locations(labels, collected)
        write_pickle({"class_locations": locations}, str(folder / f"{name}.pkl"))


@pytest.mark.parametrize("kind", CLASSES)
def test_a_case_without_any_labelled_voxel_is_unlabelled(tmp_path: Path, kind: str) -> None:
    write(tmp_path, [*CLASSES[kind], [-1, 0, 1, 2]])  # as nnU-Net collects them where there is an ignore label
    assert unlabelled_cases(tmp_path, label_maps()) == ["nothing"]


def test_without_an_ignore_label_every_case_is_labelled(tmp_path: Path) -> None:
    write(tmp_path, CLASSES["labels"])
    assert unlabelled_cases(tmp_path, label_maps()) == []


def test_a_single_ignored_voxel_of_the_last_case_is_found(tmp_path: Path) -> None:
    segmentations = [np.zeros((1, 4, 5, 6), np.int8) for _ in range(3)]
    for missing in (False, True):
        segmentations[-1][0, 1, 2, 3] = IGNORE if missing else 2
        for number, segmentation in enumerate(segmentations):
            file = tmp_path / f"missing_{missing}" / f"case_{number}"
            file.parent.mkdir(exist_ok=True)
            nnUNetDatasetBlosc2.save_case(np.zeros((1, 4, 5, 6), np.float32), segmentation, {}, str(file))
        assert has_ignored_voxels(nnUNetDatasetBlosc2(str(file.parent)), IGNORE) is missing
