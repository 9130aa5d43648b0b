"""nnU-Net's raw datasets: where they are, and what their dataset.json says."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from missu_nnunet.errors import InputError
from missu_nnunet.files import read_json
from missu_nnunet.nnunet.folders import nnunet_folder


def find_dataset(dataset: str) -> Path:
    """The folder of a dataset, given as a folder, a dataset.json, or a name or an ID in nnUNet_raw ("43").

    Raises:
        InputError: there is no such dataset, or several have the ID.
    """
    path = Path(dataset)
    if path.name == "dataset.json":
        path = path.parent
    if (path / "dataset.json").is_file():
        return path
    if not re.fullmatch(r"\d+|Dataset\d{3}_\S+", dataset):
        raise InputError(
            f"{dataset}: no dataset there; give a dataset's folder, its dataset.json, or its name or ID in nnUNet_raw"
        )
    raw = nnunet_folder("nnUNet_raw")
    pattern = f"Dataset{int(dataset):03d}_*" if dataset.isdigit() else dataset
    found = sorted(folder for folder in raw.glob(pattern) if (folder / "dataset.json").is_file())
    if len(found) != 1:
        names = ", ".join(folder.name for folder in found) or "none"
        raise InputError(
            f"{dataset}: found {names} in nnUNet_raw ({raw}), expected one dataset; give its folder instead"
        )
    return found[0]


@dataclass(frozen=True)
class RawDataset:
    """A dataset.json, as far as it is needed here.

    Attributes:
        folder: the dataset's folder.
        channels: the names of the channels, in order.
        regions: the labels of every class or region but the background, by name.
        labels: every label that a segmentation may hold: the background, the classes' and the ignore label.
        ignore: the ignore label, if the dataset has one.
        file_ending: of images and segmentations, with the dot.
        listed: the key "dataset", by which a dataset.json may list its files instead of having imagesTr and labelsTr.
        reader: the name of the reader that dataset.json asks nnU-Net for; without it, the files decide.
    """

    folder: Path
    channels: tuple[str, ...]
    regions: dict[str, tuple[int, ...]]
    labels: frozenset[int]
    ignore: int | None
    file_ending: str
    listed: dict[str, Any] | None = None
    reader: str | None = None

    @property
    def name(self) -> str:
        """Its folder's name, "Dataset043_BraTS2019"."""
        return self.folder.resolve().name


def read_dataset(folder: Path) -> RawDataset:
    """Read the dataset.json of a dataset's folder.

    Raises:
        InputError: it is not JSON, or lacks what nnU-Net needs.
    """
    path = folder / "dataset.json"
    content = read_json(path, "nnU-Net describes every dataset by one, which generate_dataset_json writes")
    try:
        regions = {
            name: tuple(int(label) for label in labels) if isinstance(labels, list) else (int(labels),)
            for name, labels in content["labels"].items()
        }
        channels = content["channel_names"]
        file_ending = content["file_ending"]
    except KeyError as error:
        raise InputError(
            f"{path}: the key {error} is missing: nnU-Net needs channel_names, labels and file_ending"
        ) from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: labels must map names to whole numbers or lists of them ({error})") from error
    return RawDataset(
        folder=folder,
        channels=tuple(channels[key] for key in sorted(channels, key=int)),
        regions={name: labels for name, labels in regions.items() if name != "ignore" and set(labels) != {0}},
        labels=frozenset(label for labels in regions.values() for label in labels),
        ignore=regions["ignore"][0] if "ignore" in regions else None,
        file_ending=file_ending,
        listed=content.get("dataset"),
        reader=content.get("overwrite_image_reader_writer"),
    )


def training_cases(dataset: RawDataset) -> dict[str, tuple[list[Path], Path]]:
    """The images, by channel, and the segmentation of every training case; whether these exist is not looked at."""
    ending, folder = dataset.file_ending, dataset.folder
    if dataset.listed is not None:
        # Paths are relative to the folder, or absolute, and may name environment variables, as in nnU-Net.
        return {
            case: (
                [folder / os.path.expandvars(path) for path in files["images"]],
                folder / os.path.expandvars(files["label"]),
            )
            for case, files in dataset.listed.items()
        }
    cases = {path.name.removesuffix(ending) for path in _images(folder / "labelsTr", ending)}
    cases |= set(_by_case(folder / "imagesTr", ending))
    names = range(len(dataset.channels))
    return {
        case: (
            [folder / "imagesTr" / f"{case}_{channel:04d}{ending}" for channel in names],
            folder / "labelsTr" / f"{case}{ending}",
        )
        for case in sorted(cases)
    }


def test_set(dataset: RawDataset) -> dict[str, list[Path]]:
    """The images in imagesTs, by case."""
    return _by_case(dataset.folder / "imagesTs", dataset.file_ending)


def _images(folder: Path, file_ending: str) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.endswith(file_ending) and path.name[0] != ".")


def _by_case(folder: Path, file_ending: str) -> dict[str, list[Path]]:
    cases: dict[str, list[Path]] = {}
    for path in _images(folder, file_ending):
        case, _, channel = path.name.removesuffix(file_ending).rpartition("_")
        if re.fullmatch(r"\d{4}", channel):
            cases.setdefault(case, []).append(path)
    return cases
