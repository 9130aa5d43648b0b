"""What a prediction needs of memory and disk, said before it starts, and refused where it cannot be had."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from acvl_utils.cropping_and_padding.bounding_boxes import get_bbox_from_mask
from nnunetv2.preprocessing.cropping.cropping import create_nonzero_mask
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels

from missu_nnunet.datasets.headers import DEFLATE
from missu_nnunet.datasets.images import FILE_ENDINGS, read_header
from missu_nnunet.datasets.inputs import Cases
from missu_nnunet.datasets.readers import read_channels
from missu_nnunet.errors import InputError
from missu_nnunet.machine import available_memory, total_memory
from missu_nnunet.prediction.cases import Wanted
from missu_nnunet.prediction.predictor import ObservedPredictor
from missu_nnunet.prediction.windows import SLICES
from missu_nnunet.text import size

_FLAT = 999.0
"""The spacing (mm) that nnU-Net gives the missing axis of a 2D image."""


@dataclass(frozen=True)
class _Grid:
    """Voxels and spacing (mm) along z, y, x."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]


@dataclass(frozen=True)
class Needs:
    """What predicting takes at least of memory, and at most of disk.

    Attributes:
        case: the case that needs most memory.
        memory_bytes: what must lie in memory at the same time; what the network itself needs comes on top.
        output_bytes: what is written, before it is compressed.
    """

    case: str
    memory_bytes: int
    output_bytes: int

    def text(self, output: Path) -> str:
        """The needs in a line, beside what there is now.

        Args:
            output: the folder of the predictions, or one that will be made.
        """
        memory, free = available_memory(), _free(output)
        line = f"needs more than {size(self.memory_bytes)} of memory for {self.case}"
        line += "" if memory is None else f" ({size(memory)} are available)"
        line += f", at most {size(self.output_bytes)} of disk ({size(free)} are free)"
        short = (memory is not None and self.memory_bytes > memory) or self.output_bytes > free
        return f"{line}: it may not suffice" if short else line


def find_needs(predictors: Sequence[ObservedPredictor], cases: Cases, wanted: Wanted, output: Path) -> Needs | None:
    """What predicting the cases takes; None of images whose headers do not tell their size, or where none is left.

    Args:
        predictors: the loaded models.
        cases: what to predict.
        wanted: what is written beside the segmentations.
        output: the folder of the predictions, or one that will be made.

    Raises:
        InputError: if an image cannot fit into this machine's memory, or the output cannot fit on the disk.
    """
    grids = {case: _grid(files[0]) for case, files in cases.items() if files[0].name.endswith(FILE_ENDINGS)}
    if not grids:
        return None
    memory = {case: _memory(predictors, grid, grid.shape, wanted) for case, grid in grids.items()}
    _check_memory(predictors, cases, grids, memory, wanted)
    case = max(memory, key=memory.__getitem__)
    voxels = sum(math.prod(grid.shape) for grid in grids.values())
    needs = Needs(case, memory[case], voxels * _bytes_per_voxel(predictors[0], wanted))
    check_disk(needs, output)
    return needs


def check_disk(needs: Needs, output: Path) -> None:
    """Refuse predictions that the free disk cannot hold, however well they are compressed.

    Args:
        needs: of the predictions.
        output: their folder, or one that will be made.

    Raises:
        InputError: if the disk cannot hold them.
    """
    if (least := needs.output_bytes // DEFLATE) > (free := _free(output)):
        raise InputError(
            f"{output}: {size(free)} are free, the predictions need {size(least)} at least; make room there, or choose "
            "another place"
        )


def _check_memory(
    predictors: Sequence[ObservedPredictor],
    cases: Cases,
    grids: Mapping[str, _Grid],
    memory: dict[str, int],
    wanted: Wanted,
) -> None:
    """Refuse an image that is too large, after a look at how much of it nnU-Net crops; ``memory`` is corrected."""
    total = total_memory()
    for case, grid in grids.items():
        if total is None or memory[case] <= total:
            continue
        files = cases[case]
        reader = predictors[0].plans_manager.image_reader_writer_class()
        mask = create_nonzero_mask(read_channels(reader, files)[0])
        cropped = tuple(end - start for start, end in get_bbox_from_mask(mask))
        memory[case] = _memory(predictors, grid, cropped, wanted)
        if memory[case] > total:
            raise InputError(
                f"{files[0]}: {'×'.join(map(str, grid.shape[::-1]))} voxels, predicting it needs more than "
                f"{size(memory[case])} of memory, this machine has {size(total)}; crop the image, or predict it on a "
                "larger machine"
            )


def _grid(file: Path) -> _Grid:
    """The grid of an image by its header, as nnU-Net's readers give it."""
    header = read_header(file)
    flat = header.GetDimension() == 2
    return _Grid(
        ((1,) if flat else ()) + header.GetSize()[:3][::-1],
        ((_FLAT,) if flat else ()) + header.GetSpacing()[:3][::-1],
    )


def _memory(predictors: Sequence[ObservedPredictor], grid: _Grid, cropped: tuple[int, ...], wanted: Wanted) -> int:
    """Bytes of all models' images and logits, and of the classes' probabilities where they are written or averaged."""
    averaged = wanted.probabilities or len(predictors) > 1
    needed = sum(_memory_of_model(predictor, grid, cropped, averaged) for predictor in predictors)
    if averaged:
        needed += 4 * _heads(predictors[0]) * math.prod(grid.shape)
    return needed


def _memory_of_model(predictor: ObservedPredictor, grid: _Grid, cropped: tuple[int, ...], averaged: bool) -> int:
    """Bytes of the image, resampled and padded to a patch, its logits in half precision, and its posterior if any."""
    order = predictor.plans_manager.transpose_forward
    spacing = [grid.spacing[axis] for axis in order]
    target = list(predictor.configuration_manager.spacing)
    target = spacing[: len(spacing) - len(target)] + target  # a 2D configuration leaves the slices as they are
    shape = [int(length) for length in compute_new_shape([cropped[axis] for axis in order], spacing, target)]
    patch = list(predictor.configuration_manager.patch_size)
    voxels = math.prod(map(max, shape, [1] * (len(shape) - len(patch)) + patch))
    channels = determine_num_input_channels(
        predictor.plans_manager, predictor.configuration_manager, predictor.dataset_json
    )
    per_head = 2 + (4 if predictor.uncertainty else 0)
    predicted = float(voxels)
    if not averaged and predictor.divides(shape, [cropped[axis] for axis in order]):
        # Each fold keeps one row of windows.
        depth = patch[0] if len(patch) == len(shape) else SLICES
        predicted *= min(1, len(predictor.list_of_parameters) * depth / shape[0])
    return int(4 * channels * voxels + per_head * _heads(predictor) * predicted)


def _heads(predictor: ObservedPredictor) -> int:
    return int(predictor.label_manager.num_segmentation_heads)


def _bytes_per_voxel(predictor: ObservedPredictor, wanted: Wanted) -> int:
    """Of the segmentation, the map of uncertainty and the probabilities."""
    return 1 + (4 if predictor.uncertainty else 0) + (4 * _heads(predictor) if wanted.probabilities else 0)


def _free(output: Path) -> int:
    folder = output.absolute()
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free
