"""Checks the names in plans that nnU-Net imports, or looks up in its own folders, and calls.

nnU-Net resolves names with ``pydoc.locate``, which imports any module and walks through its attributes; and its search
for a class takes whatever a module in the folder has by that name. Here a name must lead to what belongs in its place,
and to a package that networks are made of, before nnU-Net sees it.
"""

import contextlib
import io
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from inspect import isabstract, isfunction
from typing import Any

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.preprocessing.normalization.default_normalization_schemes import ImageNormalization
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import nn

from missu_nnunet.errors import InputError
from missu_nnunet.text import printable

NETWORK_PACKAGES = (
    "torch.nn",
    "dynamic_network_architectures",
    "missu_nnunet.architecture",
    "nnunetv2.training.nnUNetTrainer",
)
"""Where a plan's network and its parts may come from; importing these does nothing else."""

_PARTS = ("conv_op", "norm_op", "dropout_op", "nonlin")
"""Some of nnU-Net's trainers import these even where the plan does not ask for it."""

_RESAMPLING = "nnunetv2.preprocessing.resampling"

_LOOKED_UP: dict[str, tuple[str, type | None]] = {
    "label_manager": ("nnunetv2.utilities.label_handling", LabelManager),
    "image_reader_writer": ("nnunetv2.imageio", BaseReaderWriter),
    "overwrite_image_reader_writer": ("nnunetv2.imageio", BaseReaderWriter),
    "preprocessor_name": ("nnunetv2.preprocessing", DefaultPreprocessor),
    "normalization_schemes": ("nnunetv2.preprocessing.normalization", ImageNormalization),
    "resampling_fn_data": (_RESAMPLING, None),
    "resampling_fn_seg": (_RESAMPLING, None),
    "resampling_fn_probabilities": (_RESAMPLING, None),
}
"""Key → the package that nnU-Net searches for the name, and what it must be a subclass of; None is a function there."""


_trusted: list[str] = []


def trust(packages: Iterable[str]) -> None:
    """Let plans name networks of these packages as well, for the rest of this process, as the user has asked."""
    _trusted.extend(packages)


def check_names(content: Mapping[str, Any], source: str) -> None:
    """Refuse a plan or ``dataset.json`` that would have nnU-Net call something other than what belongs in its place.

    Args:
        content: content of the file.
        source: name of the file in messages.

    Raises:
        InputError: if it names anything but a network, or a part of one, of ``NETWORK_PACKAGES`` or a trusted package,
            or anything but a class or function of nnU-Net's for the place.
    """
    for part in _mappings(content):
        for name in _imported(part):
            if not _is_network(name, (*NETWORK_PACKAGES, *_trusted)):
                found = printable(str(name))
                raise InputError(
                    f"{source}: refused, because it would run {found}, which its plan names as part of the network; "
                    f"expected a torch.nn.Module of {', '.join(NETWORK_PACKAGES)}; if it is your own network, add "
                    f"--trust {found.partition('.')[0]}"
                )
        for key, name in _looked_up(part):
            package, kind = _LOOKED_UP[key]
            if name not in _trusted and not _belongs(name, package, kind):
                found, expected = printable(str(name)), f"concrete {kind.__name__}" if kind else "function"
                raise InputError(
                    f"{source}: refused, because {key} is {found}, expected a name of {package} for a {expected}; if "
                    f"it is your own, put it there, or add --trust {found} where it is not needed"
                )


def _mappings(content: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping in what a file holds, wherever it stands."""
    pending = [content]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            yield value
            pending.extend(value.values())
        elif isinstance(value, list | tuple):
            pending.extend(value)


def _imported(part: Mapping[str, Any]) -> Iterator[Any]:
    """The names that nnU-Net imports to build a network."""
    if "network_class_name" in part:
        yield part["network_class_name"]
    kwargs, required = part.get("arch_kwargs"), part.get("_kw_requires_import")
    if isinstance(kwargs, Mapping):
        # nnU-Net walks through whatever stands there: the letters of a text, the keys of an object.
        keys = (*_PARTS, *(required if isinstance(required, list | tuple | str | Mapping) else ()))
        yield from (value for key, value in kwargs.items() if key in keys and value is not None)


def _looked_up(part: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys of ``_LOOKED_UP`` in it, each with the names there."""
    for key in _LOOKED_UP.keys() & part.keys():
        names = part[key] if isinstance(part[key], list | tuple) else [part[key]]
        yield from ((key, name) for name in names if name not in (None, "None"))  # as in some dataset.json


def _is_network(name: Any, packages: Sequence[str]) -> bool:
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        return False
    module, _, attribute = name.rpartition(".")
    if not any(f"{module}.".startswith(f"{package}.") for package in packages):
        return False
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = getattr(import_module(module), attribute, None)
        except Exception:  # of modules that are not for import
            found = None
        if found is None:  # nnU-Net finds networks that have moved, by their name alone
            found = _search("dynamic_network_architectures.architectures", attribute)
    return isinstance(found, type) and issubclass(found, nn.Module)


def _belongs(name: Any, package: str, kind: type | None) -> bool:
    if not isinstance(name, str) or not name.isidentifier():
        return False
    found = _search(package, name)
    if kind is None:
        return isfunction(found) and found.__module__.startswith(f"{package}.")
    return isinstance(found, type) and issubclass(found, kind) and not isabstract(found)


def _search(package: str, name: str) -> Any:
    """What nnU-Net's own search finds of this name in a package and those below it."""
    return recursive_find_python_class(import_module(package).__path__[0], name, package)
