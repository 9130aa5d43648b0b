"""Makes segmentations of logits: nnU-Net's, voxel for voxel, in a fraction of its memory.

nnU-Net resamples the logits of all classes to the image's grid, in float64 on the way, and then takes the most likely
class. Classes are independent until then, so here each is resampled by itself, and only the best so far is kept. Plans
that resample with torch, whose last bits depend on the number of classes, are resampled as nnU-Net does it. Where
nothing is to be resampled, the logits need never be there all at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import insert_crop_into_image
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from numpy.typing import NDArray


def segment(
    slabs: Iterable[NDArray[np.float16]],
    grid: Sequence[int],
    properties: dict[str, Any],
    plans: PlansManager,
    configuration: ConfigurationManager,
    labels: LabelManager,
) -> NDArray[np.unsignedinteger[Any]]:
    """Segment a case on the grid of its image, with the axes as nnU-Net's writers take them.

    Args:
        slabs: logits ``(classes, D, H, W)`` or ``(regions, D, H, W)`` at the plan's spacing, divided along the first
            axis; in one piece where they are resampled.
        grid: the shape of all slabs together, without that of classes or regions.
        properties: the case's properties from nnU-Net's preprocessing.
        plans: plans of the model.
        configuration: configuration of the model.
        labels: label manager of the model.
    """
    dtype = np.uint8 if len(labels.foreground_labels) < 255 else np.uint16
    found = np.zeros(properties["shape_after_cropping_and_before_resampling"], dtype)
    if tuple(grid) != found.shape:
        (logits,) = slabs
        _decide(_resampled_classes(logits, properties, plans, configuration), labels, found)
    else:
        start = 0
        for slab in slabs:
            _decide(slab, labels, found[start : start + slab.shape[1]])
            start += slab.shape[1]
    whole = insert_crop_into_image(
        np.zeros(properties["shape_before_cropping"], dtype), found, properties["bbox_used_for_cropping"]
    )
    return whole.transpose(plans.transpose_backward)


def _decide(classes: Iterable[NDArray[Any]], labels: LabelManager, found: NDArray[np.unsignedinteger[Any]]) -> None:
    """Write the most likely label of each voxel of ``found``, which is 0, from the logits of each class or region."""
    best = None
    for index, values in enumerate(classes):
        if labels.has_regions:
            found[np.asarray(labels.apply_inference_nonlin(values[None])[0] > 0.5)] = labels.regions_class_order[index]
        elif best is None:
            best = np.array(values)
        else:
            better = np.asarray(values) > best
            found[better] = index
            np.maximum(best, values, out=best)


def _resampled_classes(
    logits: NDArray[np.float16], properties: dict[str, Any], plans: PlansManager, configuration: ConfigurationManager
) -> Iterator[NDArray[Any]]:
    """The logits of one class or region after the other, ``(D, H, W)``, on the grid of the cropped image."""
    if configuration.configuration["resampling_fn_probabilities"] != resample_data_or_seg_to_shape.__name__:
        yield from resample(logits, properties, plans, configuration)
        return
    for index in range(len(logits)):
        yield resample(logits[index : index + 1], properties, plans, configuration)[0]


def resample(
    values: NDArray[Any], properties: dict[str, Any], plans: PlansManager, configuration: ConfigurationManager
) -> NDArray[Any]:
    """Resample values from the plan's spacing to the grid of the image as nnU-Net has cropped it.

    Args:
        values: logits or probabilities ``(C, D, H, W)``.
        properties: the case's properties from nnU-Net's preprocessing.
        plans: plans of the model.
        configuration: configuration of the model.
    """
    image_spacing = [properties["spacing"][axis] for axis in plans.transpose_forward]
    shape = properties["shape_after_cropping_and_before_resampling"]
    spacing = configuration.spacing
    if len(spacing) < len(shape):  # of a 2D configuration, which leaves the slices as they are
        spacing = [image_spacing[0], *spacing]
    return configuration.resampling_fn_probabilities(values, shape, spacing, image_spacing)
