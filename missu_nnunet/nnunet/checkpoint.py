"""Checkpoints of nnU-Net and MISSU: read without running anything that they hold, and written whole or not at all."""

import io
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from pydoc import locate
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from missu_nnunet.errors import InputError
from missu_nnunet.files import write_bytes
from missu_nnunet.text import printable

_NUMPY_SCALAR = np.float32(0).__reduce__()[0]

ALLOWED_GLOBALS: list[Any] = [
    # What the log's values are made of; the classes are those that NumPy gives the dtypes' instances.
    np.dtype,
    *{type(np.dtype(code)) for code in "?bhilqBHILQefd"},
    (_NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),  # as NumPy 1 wrote it
]
"""What a checkpoint may hold beside the plain types and tensors that torch allows by itself."""

_ARCHITECTURE_PACKAGES = ("torch.nn.", "dynamic_network_architectures.", "missu_nnunet.")


def read_checkpoint(file: Path | IO[bytes], name: str) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; whatever would run code is refused before it runs.

    Args:
        file: path or opened file.
        name: what messages call it.

    Raises:
        InputError: if it is missing or broken, would run code, or is not a checkpoint of nnU-Net.
    """
    try:
        with torch.serialization.safe_globals(ALLOWED_GLOBALS):
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{name}: no such file; give a checkpoint, e.g. fold_0/checkpoint_final.pth") from None
    except pickle.UnpicklingError as error:
        if forbidden := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise InputError(refusal(name, forbidden[1])) from None
        raise InputError(f"{name}: {_unreadable(error)}") from None
    except Exception as error:  # a broken pickle can raise anything
        raise InputError(f"{name}: {_unreadable(error)}") from None
    if not _is_checkpoint(checkpoint):
        found = str(sorted(map(str, checkpoint)) if isinstance(checkpoint, dict) else type(checkpoint).__name__)
        raise InputError(
            f"{name}: found {printable(found)}, expected nnU-Net's checkpoint with network_weights and init_args; "
            "give one that nnUNetv2_train wrote"
        )
    check_plans(checkpoint["init_args"]["plans"], name)
    return checkpoint


def refusal(name: str, found: str) -> str:
    """The message about a file that names something to import or call."""
    return (
        f"{name}: refused, because loading it would run {found}, which no checkpoint of nnU-Net or MISSU holds; "
        "do not use it, ask for one from a source you trust"
    )


def check_plans(plans: Any, name: str) -> None:
    """Refuse a plan that would have nnU-Net call something other than a network's parts.

    Args:
        plans: what the plans file holds.
        name: what the message calls it.

    Raises:
        InputError: if it names anything but a network, or a part of one, of nnU-Net's libraries or MISSU.
    """
    for imported in _imported_names(plans):
        # Importing is harmless in these packages only; what they import themselves is ruled out by the type.
        found = locate(imported) if str(imported).startswith(_ARCHITECTURE_PACKAGES) else None
        if not (isinstance(found, type) and issubclass(found, nn.Module)):
            raise InputError(refusal(name, f"{imported} (its plan names it as part of the network)"))


def _imported_names(plans: Any) -> Iterator[Any]:
    """Every name that nnU-Net resolves to build a network, wherever it stands in a plan."""
    if not isinstance(plans, dict):
        return
    if "network_class_name" in plans:
        yield plans["network_class_name"]
    kwargs, imported = plans.get("arch_kwargs"), plans.get("_kw_requires_import")
    if isinstance(kwargs, dict) and isinstance(imported, list | tuple):
        yield from (value for key, value in kwargs.items() if key in imported and value is not None)
    for value in plans.values():
        yield from _imported_names(value)


def _unreadable(error: Exception) -> str:
    # torch puts its advice to load without restriction in front; the file may have a word in what follows.
    lines = str(error).split("WeightsUnpickler error:")[-1].strip().splitlines() or [type(error).__name__]
    return f"cannot be read as a checkpoint ({printable(lines[0])}); it is broken or something else, fetch it again"


def _is_checkpoint(checkpoint: Any) -> bool:
    if not isinstance(checkpoint, dict):
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
        and isinstance(missu, dict)
        and isinstance(missu.get("hyperparameters", {}), dict)
        and isinstance(checkpoint.get("_best_ema"), float | int | np.number | None)
    )


def check_is_new(path: Path) -> None:
    """Refuse an output that exists: nothing is ever replaced.

    Raises:
        InputError: if it does.
    """
    if path.exists():
        raise InputError(f"{path}: exists already; choose another name for the output, or remove it first")


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        InputError: if ``path`` cannot be written.
    """
    buffer = io.BytesIO()  # torch does not say why it cannot write to a file
    torch.save(checkpoint, buffer)
    write_bytes(buffer.getbuffer(), path)
