"""Finds out what a checkpoint, or a model exported by nnU-Net, holds, without running any of it.

nnU-Net unpickles checkpoints and post-processing files without restriction, and imports and calls whatever a plan names
as network, normalisation or activation. All three are checked here, wherever they are.
"""

import math
import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from torch import Tensor

from missu_nnunet.archives import ZipReader, open_zip
from missu_nnunet.datasets.readers import IMAGE_ENDINGS
from missu_nnunet.errors import InputError
from missu_nnunet.files import check_is_file, parse_json
from missu_nnunet.nnunet.checkpoint import CHECKPOINT_MEMBER, NUMBERS, read_checkpoint
from missu_nnunet.nnunet.dataset import DATASET_FILE
from missu_nnunet.nnunet.model import PLANS_FILE
from missu_nnunet.nnunet.names import check_names
from missu_nnunet.nnunet.pickles import check_pickle
from missu_nnunet.text import printable

_DATA_SUFFIXES = (".json", ".png", ".pdf", ".txt", *IMAGE_ENDINGS)
_POSTPROCESSING = re.compile(
    r"nnunetv2\.postprocessing\.remove_connected_components\.remove_all_but_largest_component_from_segmentation|"
    + NUMBERS.pattern
)

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Inspection:
    """The facts that a checkpoint states about itself; ``None`` where it does not say.

    Attributes:
        name: name of the file, or of the member of an exported model.
        trainer: name of the trainer class.
        dataset: name of the dataset.
        plans: name of the plans.
        configuration: e.g. ``3d_fullres``.
        fold: number of the fold, or ``all``.
        epochs: number of finished epochs.
        best_ema_pseudo_dice: highest moving average of the validation's mean pseudo Dice.
        last_epoch: values that the last epoch logged (losses, pseudo Dice, learning rate), by the log's keys; ``None``
            for a value that was not finite.
        parameters: number of parameters of the inference network; shared ones count once.
        bytes: size of the tensors in each part of the checkpoint, in bytes.
        missu_version: version of missu-nnunet that wrote it.
        hyperparameters: hyper-parameters of MISSU.
    """

    name: str
    trainer: str | None
    dataset: str | None
    plans: str | None
    configuration: str
    fold: int | str | None
    epochs: int | None
    best_ema_pseudo_dice: float | None
    last_epoch: dict[str, float | None]
    parameters: int
    bytes: dict[str, int]
    missu_version: str | None
    hyperparameters: dict[str, Any] | None


def inspect_file(path: Path) -> list[Inspection]:
    """Inspect a checkpoint, or every checkpoint in a model that ``nnUNetv2_export_model_to_zip`` wrote.

    Nothing is extracted; the members of a model are read in memory.

    Raises:
        InputError: if the file is missing, broken or something else, or if using it would run code or write outside
            nnU-Net's folder.
    """
    check_is_file(path, "give a checkpoint, or a model from nnUNetv2_export_model_to_zip")
    with path.open("rb") as file, open_zip(file, str(path), "checkpoint or model") as archive:
        # A checkpoint is a zip too, of a layout that leaves no room for files that would go unchecked.
        if all(map(CHECKPOINT_MEMBER.fullmatch, archive.members)):
            return [_inspect_checkpoint(read_checkpoint(path, str(path)), str(path))]
        return _inspect_model(archive)


def _inspect_model(archive: ZipReader) -> list[Inspection]:
    """Check every member, and describe the checkpoints."""
    archive.check_size()
    inspections = []
    for member in archive.members:
        name = f"{archive.name}: {printable(member)}"
        file = PurePosixPath(member)
        if file.suffix == ".pth":
            checkpoint = read_checkpoint(BytesIO(archive.read(member)), name)
            inspections.append(_inspect_checkpoint(checkpoint, name))
        elif file.suffix == ".pkl":
            check_pickle(archive.read(member), name, _POSTPROCESSING.fullmatch)
        elif file.name in (PLANS_FILE, DATASET_FILE):
            check_names(parse_json(archive.read(member), name, "fetch it again"), name)
        elif not member.endswith(_DATA_SUFFIXES):
            raise InputError(
                f"{name}: not a kind of file that nnU-Net exports; do not install this model, or remove the file"
            )
    if not inspections:
        raise InputError(
            f"{archive.name}: found no checkpoint (.pth), expected a model from nnUNetv2_export_model_to_zip"
        )
    return inspections


def _inspect_checkpoint(checkpoint: dict[str, Any], name: str) -> Inspection:
    init_args, missu = checkpoint["init_args"], checkpoint.get("missu", {})
    plans = init_args["plans"]
    best = checkpoint.get("_best_ema")
    weights = checkpoint["network_weights"]
    return Inspection(
        name=name,
        trainer=checkpoint.get("trainer_name"),
        dataset=plans.get("dataset_name"),
        plans=plans.get("plans_name"),
        configuration=init_args["configuration"],
        fold=init_args.get("fold"),
        epochs=checkpoint.get("current_epoch"),
        best_ema_pseudo_dice=None if best is None else float(best),
        last_epoch=_last_logged(checkpoint.get("logging")),
        parameters=parameter_count(weights),
        bytes={part: size for part, value in checkpoint.items() if (size := _bytes(value))},
        missu_version=missu.get("version"),
        hyperparameters=missu.get("hyperparameters"),
    )


def _last_logged(log: Any) -> dict[str, float | None]:
    """The last of what is logged as one number per epoch, without the clock's."""
    if not isinstance(log, dict):
        return {}
    last = {str(key): values[-1] for key, values in log.items() if isinstance(values, list) and values}
    return {
        key: float(value) if math.isfinite(value) else None
        for key, value in last.items()
        if isinstance(value, float | np.floating) and not key.endswith("_timestamps")
    }


def _tensors(value: Any) -> list[Tensor]:
    """Every tensor in nested containers; those that share their memory, as tied weights do, once."""
    found: dict[Any, Tensor] = {}
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, Tensor):
            # Empty tensors have no address to tell them apart, and add nothing.
            found[value.data_ptr(), value.shape] = value
        elif isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list | tuple):
            pending.extend(value)
    return list(found.values())


def parameter_count(weights: dict[str, Tensor]) -> int:
    """Count the parameters in a network's weights, without buffers; a parameter with several names counts once."""
    parameters = [value for key, value in weights.items() if not key.endswith(_BUFFERS)]
    return sum(tensor.numel() for tensor in _tensors(parameters))


def _bytes(value: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(value))
