"""Which class or region each output of a network stands for."""

import numpy as np
from nnunetv2.utilities.label_handling.label_handling import LabelManager


def output_names(labels: LabelManager) -> list[str]:
    """Name the outputs for segmentation in their order: the classes, the background's first, or the regions."""
    named = {name: label for name, label in labels.label_dict.items() if name != "ignore"}
    if labels.has_regions:
        return [name for name, label in named.items() if labels.filter_background([label])]
    names = {int(np.ravel(label)[0]): name for name, label in named.items()}  # a number, or a list of it
    return [names[label] for label in labels.all_labels]
