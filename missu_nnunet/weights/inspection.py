"""What a checkpoint, or a model exported by nnU-Net, holds, found out without running any of it.

nnU-Net unpickles checkpoints and post-processing files with no restriction, and imports and calls whatever a plan
names as network, normalisation or activation. All three are checked here, wherever they stand.
"""

import json
import math
import pickle
import re
import stat
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from torch import Tensor

from missu_nnunet.errors import InputError
from missu_nnunet.nnunet.checkpoint import check_plans, read_checkpoint, refusal
from missu_nnunet.text import printable

_TORCH_MEMBER = re.compile(
    r"[^/]+/(data\.pkl|data/\d+|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id)"
)
_DATA_SUFFIXES = (".json", ".png", ".pdf", ".txt", ".nii.gz", ".nii", ".nrrd", ".mha", ".tif", ".tiff", ".bmp")
_POSTPROCESSING = (
    "nnunetv2.postprocessing.remove_connected_components",
    "remove_all_but_largest_component_from_segmentation",
)
MAX_COMPRESSION = 100
"""A model may unpack to so many times its size."""

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Inspection:
    """What one checkpoint says about itself; ``None`` where it does not say.

    Attributes:
        name: the file, or the member of an exported model.
        trainer: name of the trainer class.
        dataset: name of the dataset.
        plans: name of the plans.
        configuration: e.g. ``3d_fullres``.
        fold: number of the fold, or ``all``.
        epochs: epochs done.
        best_ema_pseudo_dice: highest moving average of the validation's mean pseudo Dice.
        last_epoch: what the last epoch logged (losses, pseudo Dice, learning rate), by the log's keys; ``None`` where
            it was not finite.
        parameters: of the inference network; shared ones count once.
        bytes: size of the tensors in each part of the checkpoint.
        missu_version: version of missu-nnunet that wrote it.
        hyperparameters: MISSU's.
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

    Nothing is extracted: members of a model are read in memory.

    Raises:
        InputError: if the file is missing, broken or something else, or if using it would run code or write outside
            nnU-Net's folder.
    """
    if not _starts_as_zip(path):  # torch's format before 1.6
        return [_inspect_checkpoint(read_checkpoint(path, str(path)), str(path))]
    try:
        with zipfile.ZipFile(path) as archive:
            # A checkpoint is a zip too, of a layout that leaves no room for files that would go unchecked.
            is_checkpoint = all(_TORCH_MEMBER.fullmatch(name) for name in archive.namelist())
            _check_sizes(archive, path.stat().st_size, 1 if is_checkpoint else MAX_COMPRESSION, str(path))
            if is_checkpoint:
                return [_inspect_checkpoint(read_checkpoint(path, str(path)), str(path))]
            return _inspect_model(archive, path)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # broken, exotic or encrypted
        raise InputError(f"{path}: cannot be read as a zip ({error}); fetch it again") from None


def _starts_as_zip(path: Path) -> bool:
    """Whether torch takes the file for a zip: by its first bytes, where ``zipfile`` looks at the end as well."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"PK\3\4"


def _check_sizes(archive: zipfile.ZipFile, size: int, max_compression: int, name: str) -> None:
    """Refuse a zip that would unpack to far more than its own size: compressed beyond measure, or overlapping members.

    Args:
        archive: the zip.
        size: of the zip in bytes.
        max_compression: how many times its size it may unpack to; torch does not compress.
        name: what messages call it.
    """
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max_compression * size:
        raise InputError(
            f"{name}: refused, because its {size:,} bytes would unpack to {unpacked:,}, more than {max_compression} "
            "times as much; do not use it, ask for one from a source you trust"
        )


def _inspect_model(archive: zipfile.ZipFile, path: Path) -> list[Inspection]:
    """Check every member, and describe the checkpoints."""
    inspections = []
    for member in archive.infolist():
        name = f"{path}: {printable(member.filename)}"
        _check_member(member, name)
        suffix = PurePosixPath(member.filename).suffix
        if suffix == ".pth":
            content = BytesIO(archive.read(member))
            if zipfile.is_zipfile(content):
                with zipfile.ZipFile(content) as inner:
                    _check_sizes(inner, member.file_size, 1, name)
            content.seek(0)
            checkpoint = read_checkpoint(content, name)
            inspections.append(_inspect_checkpoint(checkpoint, name))
        elif suffix == ".pkl":
            _check_postprocessing(archive.read(member), name)
        elif PurePosixPath(member.filename).name == "plans.json":
            check_plans(_parse_json(archive.read(member), name), name)
        elif not member.is_dir() and not member.filename.endswith(_DATA_SUFFIXES):
            raise InputError(
                f"{name}: not a kind of file that nnU-Net exports; do not install this model, or remove the file"
            )
    if not inspections:
        raise InputError(f"{path}: found no checkpoint (.pth), expected a model from nnUNetv2_export_model_to_zip")
    return inspections


def _check_member(member: zipfile.ZipInfo, name: str) -> None:
    """Refuse a member that nnU-Net's installation would write outside its folder, or as a link."""
    # The name as it stands in the archive: ZipInfo.filename is cut at a NUL.
    parts = re.split(r"[/\\]", member.orig_filename)
    if ".." in parts or parts[0] == "" or ":" in parts[0] or "\0" in member.orig_filename:
        raise InputError(
            f"{name}: refused, because the path leads out of the model's folder; do not install this model"
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise InputError(f"{name}: refused, because it is a symbolic link; do not install this model")


class _PostprocessingUnpickler(pickle.Unpickler):
    """Knows the one function of nnU-Net's post-processing, by name only."""

    def find_class(self, module: str, name: str) -> str:
        if (module, name) != _POSTPROCESSING:
            raise _ForbiddenGlobalError(f"{module}.{name}")
        return name


class _ForbiddenGlobalError(Exception):
    """A pickle names something to import."""


def _check_postprocessing(content: bytes, name: str) -> None:
    try:
        _PostprocessingUnpickler(BytesIO(content)).load()
    except _ForbiddenGlobalError as error:
        raise InputError(refusal(name, str(error))) from None
    except Exception as error:  # a broken pickle can raise anything
        raise InputError(f"{name}: cannot be read as nnU-Net's post-processing ({error}); fetch it again") from None


def _parse_json(content: bytes, name: str) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise InputError(f"{name}: cannot be read as JSON ({error}); fetch it again") from None


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
    """The parameters in a network's weights, without buffers; one that stands under several names counts once."""
    parameters = [value for key, value in weights.items() if not key.endswith(_BUFFERS)]
    return sum(tensor.numel() for tensor in _tensors(parameters))


def _bytes(value: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(value))
