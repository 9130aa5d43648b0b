"""Reads checkpoints of nnU-Net and MISSU without running anything that they hold, and writes them atomically."""

import io
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from missu_nnunet.archives import open_zip
from missu_nnunet.errors import InputError
from missu_nnunet.files import check_is_file, write_bytes
from missu_nnunet.nnunet.names import check_names
from missu_nnunet.nnunet.pickles import check_pickle
from missu_nnunet.text import printable

CHECKPOINT_MEMBER = re.compile(
    r"[^/]+/(data\.pkl|data/\d+|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id)"
)
"""The names of the members of a checkpoint, which is a zip."""

NUMBERS = re.compile(r"numpy\.dtype|numpy\.(_core|core)\.multiarray\.scalar|_codecs\.encode")
"""The names that NumPy's numbers import in a pickle."""

_ALLOWED = re.compile(
    r"collections\.OrderedDict|torch\.device|torch\._utils\._rebuild_(tensor_v2|parameter)|"
    r"torch\.(Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)Storage|" + NUMBERS.pattern
)
"""The names that a checkpoint may import: plain tensors are made of these."""


class _NumberType:
    """The type of a NumPy scalar in a checkpoint: NumPy's own would take more than numbers."""

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        if not re.fullmatch("[biuf][1248]|f16", code):
            raise ValueError(f"a number of type {code}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[2:] != (None, None, None, -1, -1, 0):
            raise ValueError("a number of a type with parts")
        self.dtype = self.dtype.newbyteorder(state[1])


def _number(kind: _NumberType, content: bytes) -> Any:
    return np.frombuffer(content, kind.dtype, 1)[0]


_NUMPY: list[Any] = [
    (_NumberType, "numpy.dtype"),
    (_number, "numpy._core.multiarray.scalar"),
    (_number, "numpy.core.multiarray.scalar"),  # as NumPy 1 wrote it
]


def read_checkpoint(file: Path | IO[bytes], name: str) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; a checkpoint that would run code is refused before it does.

    The result consists of plain dictionaries, lists, tuples, numbers, texts and tensors in memory, none of which
    contains itself.

    Args:
        file: path or opened file.
        name: name of the file in messages.

    Raises:
        InputError: if it is missing or broken, would run code, or is not a checkpoint of nnU-Net.
    """
    checkpoint = _load(file, name)
    if not _is_checkpoint(checkpoint):
        found = str(sorted(map(str, checkpoint)) if isinstance(checkpoint, dict) else type(checkpoint).__name__)
        raise InputError(
            f"{name}: found {printable(found)}, expected nnU-Net's checkpoint with network_weights and init_args; "
            "give one that nnUNetv2_train wrote"
        )
    check_names(checkpoint["init_args"], name)
    return checkpoint


def check_weights(weights: Mapping[str, Tensor], name: str) -> None:
    """Refuse weights that a network cannot compute with.

    Args:
        weights: state dict of a network.
        name: name of the file in messages.

    Raises:
        InputError: if a weight is no floating-point number, or not finite.
    """
    for key, weight in weights.items():
        if key.endswith("num_batches_tracked"):  # the only whole number, of a batch normalisation
            continue
        if not weight.is_floating_point():
            found = f"numbers of type {weight.dtype}"
        elif not torch.isfinite(weight).all():
            found = "NaN or infinite values, which a training leaves that has diverged"
        else:
            continue
        raise InputError(f"{name}: {printable(key)} holds {found}; give an earlier checkpoint, or train anew")


def read_pretrained(file: Path) -> dict[str, Any]:
    """Read the weights that nnssl, nnU-Net's self-supervised pre-training, saved, as ``read_checkpoint`` does.

    Raises:
        InputError: if the file is missing or broken, would run code, or is not a checkpoint of nnssl.
    """
    checkpoint = _load(file, str(file))
    weights = checkpoint.get("network_weights") if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict) or "nnssl_adaptation_plan" not in checkpoint:
        raise InputError(
            f"{file}: expected a checkpoint of nnssl, with network_weights and nnssl_adaptation_plan; for one of "
            "nnU-Net use missu weights from-nnunet"
        )
    return weights


def _load(file: Path | IO[bytes], name: str) -> Any:
    """What a file holds that ``torch.save`` wrote, in plain types."""
    with ExitStack() as opened:
        if isinstance(file, Path):
            check_is_file(file, "give a checkpoint, e.g. fold_0/checkpoint_final.pth")
            file = opened.enter_context(file.open("rb"))
        with open_zip(file, name, "checkpoint") as archive:
            archive.check_size(max_compression=1)  # torch does not compress
            if not all(map(CHECKPOINT_MEMBER.fullmatch, archive.members)):
                raise InputError(
                    f"{name}: a zip of other files, expected a checkpoint; of an exported model unpack it first, and "
                    "give its fold_0/checkpoint_final.pth"
                )
        try:
            file.seek(0)
            content = torch._C.PyTorchFileReader(file).get_record("data.pkl")  # as torch.load will see it
        except Exception as error:  # torch's own of many kinds
            raise InputError(f"{name}: {_unreadable(error)}") from None
        check_pickle(content, name, _ALLOWED.fullmatch)
        try:
            file.seek(0)
            with torch.serialization.safe_globals(_NUMPY), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about unusual files
                return _plain(torch.load(file, map_location="cpu", weights_only=True))
        except Exception as error:  # a broken pickle can raise anything
            raise InputError(f"{name}: {_unreadable(error)}") from None


def _plain(value: Any) -> Any:
    """The same of plain types, without what an object of a pickle may have been given in place of its methods.

    Raises:
        ValueError: if a checkpoint has no such values.
    """
    kind = type(value)
    if kind in (dict, OrderedDict):
        return {_plain(key): _plain(content) for key, content in dict.items(value)}
    if kind in (list, tuple):
        return kind(map(_plain, value))
    if kind in (Tensor, nn.Parameter):
        tensor = Tensor.detach(value)
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"a tensor of shape {tuple(tensor.shape)} that is not in the file")
        return tensor
    if value is None or kind in (str, int, float, bool, bytes, torch.device) or isinstance(value, np.number | np.bool_):
        return value
    raise ValueError(f"a value of type {kind.__name__}")


def _unreadable(error: Exception) -> str:
    # torch puts its advice to load without restriction in front; the file may have a word in what follows.
    lines = str(error).split("WeightsUnpickler error:")[-1].strip().splitlines() or [type(error).__name__]
    return f"cannot be read as a checkpoint ({printable(lines[0])}); it is broken or something else, fetch it again"


def _is_checkpoint(checkpoint: Any) -> bool:
    if not isinstance(checkpoint, dict) or not all(isinstance(key, str) for key in checkpoint):
        return False
    weights, init_args = checkpoint.get("network_weights"), checkpoint.get("init_args")
    missu = checkpoint.get("missu", {})
    return (
        isinstance(weights, dict)
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items())
        and isinstance(init_args, dict)
        and isinstance(init_args.get("plans"), dict)
        and isinstance(init_args.get("dataset_json"), dict)
        and isinstance(init_args.get("configuration"), str)
        and isinstance(init_args.get("fold"), int | str | None)
        and isinstance(missu, dict)
        and isinstance(missu.get("hyperparameters", {}), dict)
        and isinstance(checkpoint.get("trainer_name"), str | None)
        and isinstance(checkpoint.get("current_epoch"), int | None)
        and isinstance(checkpoint.get("_best_ema"), float | int | np.number | None)
    )


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint atomically: it is there in full or not at all.

    Raises:
        InputError: if ``path`` cannot be written.
    """
    buffer = io.BytesIO()  # torch does not say why it cannot write to a file
    torch.save(checkpoint, buffer)
    write_bytes(buffer.getbuffer(), path)
