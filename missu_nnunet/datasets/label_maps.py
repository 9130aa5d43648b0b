"""Cases that keep their images and get another label map, in which unlabelled voxels have the ignore label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from numpy.typing import NDArray

from missu_nnunet.datasets.conversion import Conversion, place
from missu_nnunet.datasets.readers import Properties, write_labels
from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.dataset import LARGEST_LABEL, RawDataset, read_description

LabelMap = tuple[NDArray[np.integer[Any]], Properties]
"""Labels ``(Z, Y, X)``, and what their reader needs to write them."""


def ignore_label(dataset: RawDataset) -> int:
    """Return the dataset's ignore label, or the one it would get: nnU-Net needs the label after the highest.

    Raises:
        InputError: if there is none after the highest, or the dataset's own is not the highest.
    """
    highest = max(dataset.labels)
    if dataset.ignore is not None and dataset.ignore < highest:
        raise InputError(
            f"{dataset.file}: found the ignore label {dataset.ignore} beside {highest}, expected it to be the highest, "
            "as nnU-Net needs it: number the labels anew, also in the label maps"
        )
    if dataset.ignore is not None:
        return dataset.ignore
    if highest >= LARGEST_LABEL:
        raise InputError(
            f"{dataset.file}: found label {highest}, expected labels below {LARGEST_LABEL}, so that the ignore label "
            "can come after them: number the classes anew"
        )
    return highest + 1


def description_with_ignore(dataset: RawDataset, num_training: int) -> dict[str, Any]:
    """Return the content of the ``dataset.json`` with the ignore label and another number of training cases."""
    content = read_description(dataset)
    return content | {
        "labels": content["labels"] | {"ignore": ignore_label(dataset)},
        "numTraining": num_training,
    }


def refuse_incomplete(cases: Mapping[str, tuple[list[Path], Path]]) -> None:
    """Refuse training cases that lack an image or their label map.

    Args:
        cases: the images and the label map of each case, as ``training_cases`` lists them.

    Raises:
        InputError: if a file is not there.
    """
    for case, (images, label) in cases.items():
        if missing := next((file for file in (*images, label) if not file.is_file()), None):
            raise InputError(
                f"{missing}: no such file, expected images and a label map of every case: add it, or move what there "
                f"is of {case} elsewhere; missu dataset unlabelled adds images that have no label map"
            )


def case_conversion(
    reader: BaseReaderWriter,
    case: str,
    images: Sequence[Path],
    ending: str,
    link: bool,
    label_source: Path | None = None,
    label_map: Callable[[], LabelMap] | None = None,
    label_folder: str = "labelsTr",
) -> Conversion:
    """Plan to copy the images of a case, and to write a label map with the dataset's reader.

    Args:
        reader: reader of the dataset.
        case: name of the case.
        images: the case's images, by channel.
        ending: file ending of the dataset.
        link: whether images are linked instead of copied.
        label_source: the file that the label map is made from, if there is one.
        label_map: a picklable function that makes the label map; a case without one belongs to the test set.
        label_folder: name of the folder of the label map.
    """
    where = "Ts" if label_map is None else "Tr"
    copied = {image: f"images{where}/{case}_{channel:04d}{ending}" for channel, image in enumerate(images)}
    written = [] if label_map is None else [f"{label_folder}/{case}{ending}"]
    if isinstance(reader, Tiff3DIO):  # keeps an image's spacing, and that of a label map, in a file beside
        spacing = images[0].with_name(f"{case}.json")
        if spacing.is_file():
            copied[spacing] = f"images{where}/{case}.json"
        written += [name.removesuffix(ending) + ".json" for name in written]
    sources = (*copied, label_source) if label_source else tuple(copied)
    return Conversion(
        case, sources, (*copied.values(), *written), partial(_convert, tuple(copied), label_map, reader, link), link
    )


def _convert(
    copied: Sequence[Path],
    label_map: Callable[[], LabelMap] | None,
    reader: BaseReaderWriter,
    link: bool,
    targets: Sequence[Path],
) -> None:
    for source, target in zip(copied, targets, strict=False):
        place(source, target, link)
    if label_map:
        labels, properties = label_map()
        write_labels(reader, labels, properties, targets[len(copied)])
