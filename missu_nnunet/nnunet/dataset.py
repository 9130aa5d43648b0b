"""nnU-Net's raw datasets: where they lie, and what their ``dataset.json`` says."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field, StrictStr, StringConstraints

from missu_nnunet.errors import InputError
from missu_nnunet.files import folder_name, read_finite_json
from missu_nnunet.nnunet.folders import dataset_folders, is_dataset_name, nnunet_folder
from missu_nnunet.structures import FilePath, Name, Structure, as_structure, read_structure

DATASET_FILE = "dataset.json"


def find_dataset(dataset: str) -> Path:
    """Find the folder of a dataset.

    Args:
        dataset: a folder, a ``dataset.json``, or a name or an ID ("43") in nnUNet_raw.

    Raises:
        InputError: if there is no such dataset, or several have the ID.
    """
    path = Path(dataset)
    if path.name == DATASET_FILE:
        path = path.parent
    if (path / DATASET_FILE).is_file():
        return path
    if not is_dataset_name(dataset):
        raise InputError(
            f"{dataset}: no dataset there; give a dataset's folder, its dataset.json, or its name or ID in nnUNet_raw"
        )
    raw = nnunet_folder("nnUNet_raw")
    found = [folder for folder in dataset_folders(raw, dataset) if (folder / DATASET_FILE).is_file()]
    if len(found) != 1:
        names = ", ".join(folder.name for folder in found) or "none"
        raise InputError(
            f"{dataset}: found {names} in nnUNet_raw ({raw}), expected one dataset; give its folder instead"
        )
    return found[0]


_REMEDY = "nnU-Net describes every dataset by one, which generate_dataset_json writes"

LARGEST_LABEL = 2**15 - 1
"""The largest label that nnU-Net can train on: it keeps label maps as 16-bit integers."""

LOST_ENDING = "_seg"
"""The end of preprocessed segmentations' names in nnU-Net, which does not find a case again whose name ends so."""

_LABELS_EXPECTED = f"labels must map names to whole numbers up to {LARGEST_LABEL} or lists of them"


def _label_values(value: object) -> tuple[int, ...]:
    """The values of a class or region, as nnU-Net takes them: a number, also as text, or a list of these."""
    parts = value if isinstance(value, list) else [value]
    if not parts or not all(map(_is_label, parts)):
        raise ValueError(_LABELS_EXPECTED)
    return tuple(map(int, parts))


def _is_label(value: object) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"\s*-?[0-9]{1,9}\s*", value) is not None and abs(int(value)) <= LARGEST_LABEL
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return whole and not isinstance(value, bool) and abs(value) <= LARGEST_LABEL  # type: ignore[arg-type]


def _usable_labels(labels: object) -> object:
    """The labels without an ignore label of null, which is none to nnU-Net; a list of ignore labels is refused."""
    if not isinstance(labels, dict):
        raise ValueError(_LABELS_EXPECTED)
    if isinstance(labels.get("ignore"), list):
        raise ValueError("the ignore label must be one whole number")
    return {name: value for name, value in labels.items() if (name, value) != ("ignore", None)}


def _not_null(value: object) -> object:
    """What may be absent, but not null."""
    if value is None:
        raise ValueError("expected an object, or no such key")
    return value


class _Case(Structure):
    """The files of a training case."""

    images: Annotated[list[FilePath], Field(min_length=1)]
    label: FilePath


class DatasetJson(Structure):
    """The part of a ``dataset.json`` that is used.

    The channels of old ones, which nnU-Net reads as well, are called "modality".
    """

    labels: Annotated[
        dict[str, Annotated[tuple[int, ...], BeforeValidator(_label_values)]],
        BeforeValidator(_usable_labels),
        Field(min_length=1),
    ]
    channel_names: Annotated[
        dict[Annotated[str, StringConstraints(pattern=r"^[0-9]{1,4}$")], StrictStr],
        Field(validation_alias=AliasChoices("channel_names", "modality"), min_length=1),
    ]
    file_ending: Name
    overwrite_image_reader_writer: StrictStr | None = None
    dataset: Annotated[dict[Name, _Case] | None, BeforeValidator(_not_null)] = None


@dataclass(frozen=True)
class RawDataset:
    """A raw dataset, as its ``dataset.json`` describes it.

    Attributes:
        folder: folder of the dataset.
        channels: names of the channels, in order.
        regions: labels of each class or region but the background, by its name.
        labels: all labels that a segmentation may hold, those of the background and the ignore label included.
        ignore: the ignore label, if the dataset has one.
        file_ending: file ending of images and segmentations, with the dot.
        listed: files of each training case, where ``dataset.json`` lists them under "dataset" instead of having them in
            the folders ``imagesTr`` and ``labelsTr``.
        reader: name of the reader that ``dataset.json`` asks for; without one, nnU-Net chooses by the files.
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
        """Name of the dataset's folder, such as "Dataset043_BraTS2019"."""
        return folder_name(self.folder)

    @property
    def file(self) -> Path:
        """The ``dataset.json``."""
        return self.folder / DATASET_FILE


def read_dataset(folder: Path) -> RawDataset:
    """Read the ``dataset.json`` in a dataset's folder.

    Raises:
        InputError: if it is not JSON, or lacks what nnU-Net needs.
    """
    content = read_structure(folder / DATASET_FILE, DatasetJson, _REMEDY)
    labels, channels, listed = content.labels, content.channel_names, content.dataset
    return RawDataset(
        folder=folder,
        channels=tuple(channels[key] for key in sorted(channels, key=int)),
        regions={name: values for name, values in labels.items() if name != "ignore" and set(values) != {0}},
        labels=frozenset(label for values in labels.values() for label in values),
        ignore=labels["ignore"][0] if "ignore" in labels else None,
        file_ending=content.file_ending,
        listed=None if listed is None else {case: files.model_dump() for case, files in listed.items()},
        reader=content.overwrite_image_reader_writer,
    )


def read_description(dataset: RawDataset) -> dict[str, Any]:
    """Read the whole content of a dataset's ``dataset.json``, to write it again with changes.

    Raises:
        InputError: if it cannot be read any more.
    """
    return read_finite_json(dataset.file, _REMEDY)


def check_dataset_json(content: object, name: str) -> None:
    """Refuse a ``dataset.json`` that nnU-Net could not use.

    Args:
        content: content of the file.
        name: name of the file in the message.

    Raises:
        InputError: if it lacks something, or holds it in another form than nnU-Net's.
    """
    as_structure(content, DatasetJson, name, _REMEDY)


def training_cases(dataset: RawDataset) -> dict[str, tuple[list[Path], Path]]:
    """List the images, by channel, and the segmentation of every training case; the files need not exist."""
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
    labelled = {path.name.removesuffix(ending) for path in _images(folder / "labelsTr", ending)}
    images = _by_case(folder / "imagesTr", ending)  # one file may hold several channels: a photograph's colours
    return {
        case: (
            images.get(case, [folder / "imagesTr" / f"{case}_0000{ending}"]),
            folder / "labelsTr" / f"{case}{ending}",
        )
        for case in sorted(labelled | images.keys())
    }


def stray_labels(dataset: RawDataset) -> set[str]:
    """Find the cases with a segmentation and no image, which are none to nnU-Net."""
    if dataset.listed is not None:
        return set()
    return {case for case, (images, _) in training_cases(dataset).items() if not images[0].is_file()}


def test_set(dataset: RawDataset) -> dict[str, list[Path]]:
    """List the images in ``imagesTs``, by case."""
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
