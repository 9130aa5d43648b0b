"""nnU-Net's post-processing, where ``nnUNetv2_find_best_configuration`` determined one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.postprocessing.remove_connected_components import (
    load_postprocess_save,
    remove_all_but_largest_component_from_segmentation,
)

from missu_nnunet.errors import InputError
from missu_nnunet.files import read_json
from missu_nnunet.nnunet.folders import CROSSVAL_RESULTS

_FUNCTION = remove_all_but_largest_component_from_segmentation
_FILE = "postprocessing.json"
"""The file that nnU-Net writes beside ``postprocessing.pkl``; it says the same and cannot run code."""


@dataclass(frozen=True)
class Postprocessing:
    """A post-processing that keeps only the largest component of some classes or regions.

    Attributes:
        source: the file that describes it.
        arguments: arguments of each call of nnU-Net's function.
    """

    source: Path
    arguments: tuple[dict[str, Any], ...]

    def apply(self, segmentation: Path, reader_writer: BaseReaderWriter) -> None:
        """Post-process a segmentation's file in place."""
        functions = [_FUNCTION] * len(self.arguments)
        load_postprocess_save(str(segmentation), str(segmentation), reader_writer, functions, list(self.arguments))


def find_postprocessing(models: Sequence[Path]) -> Postprocessing | None:
    """Find the post-processing of a model, or of an ensemble of two; None where there is none.

    Where several were determined, the one that was determined on the most folds is taken.

    Args:
        models: folders of the trained models.

    Raises:
        InputError: if the file is not as nnU-Net writes it.
    """
    if len(models) == 1:
        files = list(models[0].glob(f"{CROSSVAL_RESULTS}*/{_FILE}"))
    else:
        ensembles = models[0].resolve().parent / "ensembles"
        orders = ("___".join(model.resolve().name for model in order) for order in (models, models[::-1]))
        files = [file for order in orders for file in ensembles.glob(f"ensemble___{order}___*/{_FILE}")]
    if not files:
        return None
    file = max(files, key=lambda found: len(found.parent.name))
    remedy = "run nnUNetv2_find_best_configuration again, or give --no-postprocessing"
    content = read_json(file, remedy)
    names, arguments = content.get("postprocessing_fns"), content.get("postprocessing_kwargs")
    if not isinstance(names, list) or not isinstance(arguments, list) or len(names) != len(arguments):
        raise InputError(f"{file}: expected postprocessing_fns and as many postprocessing_kwargs; {remedy}")
    for name, given in zip(names, arguments, strict=True):
        if name != _FUNCTION.__name__ or not isinstance(given, dict) or not _are_labels(given.get("labels_or_regions")):
            raise InputError(f"{file}: found {name}({given}), expected {_FUNCTION.__name__} of labels; {remedy}")
    # A region's tuple is a list in JSON; the mask of a list of labels is the region's.
    found = tuple({"labels_or_regions": given["labels_or_regions"]} for given in arguments)
    return Postprocessing(file, found) if found else None


def _are_labels(value: object) -> bool:
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(isinstance(label, int) and not isinstance(label, bool) for label in values)
