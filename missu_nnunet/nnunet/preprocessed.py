"""What nnU-Net's preprocessing leaves of a dataset: its references, and where each case has labels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_pickle
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset

from missu_nnunet.nnunet.folders import nnunet_folder


def references_folder(dataset: str) -> Path:
    """Return the folder of the dataset's segmentations that nnU-Net copies in preprocessing; it need not exist.

    Args:
        dataset: the dataset's full name, such as ``Dataset004_Hippocampus``.

    Raises:
        InputError: if nnUNet_preprocessed is not set.
    """
    return nnunet_folder("nnUNet_preprocessed") / dataset / "gt_segmentations"


def unlabelled_cases(folder: Path, cases: Iterable[str]) -> list[str]:
    """Find the cases that have no label at all: every voxel of their label map was the ignore label.

    nnU-Net's preprocessing notes for each case where its labelled voxels lie, under ``class_locations``; where the
    dataset has an ignore label, an entry counts all labels, the background's among them. A case without foreground
    is therefore told from one that nobody labelled, and a dataset without an ignore label has no unlabelled case.

    The trainer needs them: an unlabelled case can be learnt from and cannot be validated on.

    Args:
        folder: folder of a configuration, ``nnUNet_preprocessed/DATASET/PLANS_CONFIGURATION``.
        cases: names of the cases, such as ``dataset.identifiers``.
    """
    return [case for case in cases if _is_unlabelled(load_pickle(str(folder / f"{case}.pkl"))["class_locations"])]


def has_ignored_voxels(dataset: nnUNetBaseDataset, ignore_label: int) -> bool:
    """Return whether any case of a dataset that nnU-Net trains on has a voxel of the ignore label.

    Cases are read until one has; a dataset without any is read as a whole.

    Args:
        dataset: nnU-Net's dataset of preprocessed cases.
        ignore_label: the ignore label's number.
    """
    return any(bool(np.any(dataset.load_case(case)[1][:] == ignore_label)) for case in dataset.identifiers)


def _is_unlabelled(class_locations: dict[int | tuple[int, ...], list]) -> bool:
    # nnU-Net's key of all labelled voxels begins with -1, its label of what it cropped away as empty.
    labelled = [found for key, found in class_locations.items() if isinstance(key, tuple) and key[0] == -1]
    return bool(labelled) and not any(len(found) for found in labelled)
