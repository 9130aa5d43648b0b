"""Reads plans as a user names them: a file and one of its configurations."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from missu_nnunet.errors import InputError, PlanError
from missu_nnunet.files import read_json
from missu_nnunet.nnunet.dataset import check_dataset_json
from missu_nnunet.nnunet.names import check_names
from missu_nnunet.structures import Name, Structure, as_structure

_REMEDY = "give plans as nnU-Net writes them, or plan the dataset again"

_MAX_VOXELS = 2**31
"""More voxels than any image has: a patch of more is a mistake."""


def _as_list(value: object) -> object:
    """One number for all stages stands for a list of numbers."""
    return value if isinstance(value, list) else [value]


_Blocks = Annotated[list[Annotated[int, Field(ge=0, le=100)]], BeforeValidator(_as_list)]
_Channels = Annotated[list[Annotated[int, Field(ge=1, le=2**16)]], BeforeValidator(_as_list)]
_Size = Annotated[list[Annotated[int, Field(ge=1, le=2**14)]], Field(min_length=1, max_length=3)]
_Sizes = Annotated[list[Annotated[_Size, BeforeValidator(_as_list)]], BeforeValidator(_as_list)]


class _Part(Structure):
    """A part of a plan, where a number in quotes is no number."""

    model_config = ConfigDict(strict=True)


class _Transformer(_Part):
    """The numbers of MISSU's Transformer."""

    embedding_dim: Annotated[int, Field(ge=1, le=2**16)]
    depth: Annotated[int, Field(ge=1, le=1000)]
    num_heads: Annotated[int, Field(ge=1, le=2**16)]
    mlp_dim: Annotated[int, Field(ge=1, le=2**18)]


class _NormKwargs(_Part):
    """The numbers of a normalisation that its constructor takes unseen."""

    eps: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = 1e-5
    momentum: Annotated[float, Field(ge=0, le=1)] | None = None


class _NonlinKwargs(_Part):
    """The number of a LeakyReLU, which its constructor takes unseen."""

    negative_slope: Annotated[float, Field(allow_inf_nan=False)] = 0.01


class _ArchKwargs(_Part):
    """The numbers that decide how much is built, or fail in use alone; the networks look at the rest themselves."""

    n_stages: Annotated[int, Field(ge=1, le=64)] = 1
    features_per_stage: _Channels = Field(default_factory=list)
    kernel_sizes: _Sizes = Field(default_factory=list)
    strides: _Sizes = Field(default_factory=list)
    n_conv_per_stage: _Blocks = Field(default_factory=list)
    n_blocks_per_stage: _Blocks = Field(default_factory=list)
    n_conv_per_stage_decoder: _Blocks = Field(default_factory=list)
    norm_op_kwargs: _NormKwargs | None = None
    nonlin_kwargs: _NonlinKwargs | None = None
    transformer: _Transformer | None = None
    stages_below_transformer: Annotated[int, Field(ge=0)] = 0


class _Architecture(_Part):
    """How the network is built."""

    network_class_name: str
    arch_kwargs: _ArchKwargs


class Configuration(_Part):
    """The part of a configuration that is used, with all that it inherits; old ones have no architecture."""

    patch_size: Annotated[_Size, Field(min_length=2)]
    batch_size: Annotated[int, Field(ge=1, le=2**20)]
    spacing: Annotated[list[Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=2, max_length=3)]
    normalization_schemes: list[str] = Field(default_factory=list)
    use_mask_for_norm: list[bool] = Field(default_factory=list)
    resampling_fn_data_kwargs: dict[str, Any] = Field(default_factory=dict)
    resampling_fn_probabilities_kwargs: dict[str, Any] = Field(default_factory=dict)
    data_identifier: Name | None = None
    architecture: _Architecture | None = None

    @model_validator(mode="after")
    def _can_be_addressed(self) -> "Configuration":
        if (voxels := math.prod(self.patch_size)) > _MAX_VOXELS:
            raise ValueError(f"found a patch of {voxels:,} voxels, expected at most {_MAX_VOXELS:,}")
        return self

    @model_validator(mode="after")
    def _has_as_many_axes_everywhere(self) -> "Configuration":
        if self.architecture is None:
            return self
        axes, kwargs = len(self.patch_size), self.architecture.arch_kwargs
        for name, sizes in (("kernel_sizes", kwargs.kernel_sizes), ("strides", kwargs.strides)):
            for size in sizes:
                if len(size) not in (1, axes):
                    raise ValueError(
                        f"found {size} in {name}, expected {axes} axes, as patch_size {self.patch_size} has"
                    )
        return self


class Plans(_Part):
    """The part of a plans file that is used."""

    plans_name: Name
    configurations: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    transpose_forward: list[int] = Field(default_factory=lambda: [0, 1, 2])
    transpose_backward: list[int] = Field(default_factory=list)

    @model_validator(mode="after")
    def _transposes_three_axes(self) -> "Plans":
        if sorted(self.transpose_forward) != [0, 1, 2]:
            raise ValueError(f"found transpose_forward {self.transpose_forward}, expected 0, 1 and 2 in some order")
        inverse = [self.transpose_forward.index(axis) for axis in range(3)]
        if "transpose_backward" in self.model_fields_set and self.transpose_backward != inverse:
            raise ValueError(
                f"found transpose_backward {self.transpose_backward}, expected {inverse}, which undoes "
                f"transpose_forward {self.transpose_forward}"
            )
        return self


def read_plan(plans_file: Path, configuration: str) -> tuple[PlansManager, ConfigurationManager, dict[str, Any]]:
    """Read the plans, one configuration of them, and the dataset's ``dataset.json``.

    Args:
        plans_file: a plans file of nnU-Net; the dataset's ``dataset.json`` lies beside it, as nnU-Net puts it.
        configuration: e.g. ``3d_fullres``.

    Raises:
        InputError: if a file is missing or unreadable, names something that does not belong there, or the plan has no
            such configuration.
    """
    plans = read_json(plans_file, "give a plans file, e.g. $nnUNet_preprocessed/DATASET/nnUNetMISSUPlans.json")
    dataset_file = plans_file.with_name("dataset.json")
    dataset_json = read_json(dataset_file, "nnU-Net puts it beside the plans; it names channels and labels")
    check_names(plans, str(plans_file))
    check_names(dataset_json, str(dataset_file))
    check_dataset_json(dataset_json, str(dataset_file))
    plans_manager = PlansManager(plans)
    return plans_manager, find_configuration(plans_manager, configuration, plans_file), dataset_json


def find_configuration(plans: PlansManager, configuration: str, source: Path) -> ConfigurationManager:
    """Find a configuration of the plans.

    Args:
        plans: the plans as nnU-Net has read them.
        configuration: e.g. ``3d_fullres``.
        source: the file, for the message.

    Raises:
        InputError: if the plans have no such configuration, or are not as nnU-Net writes them.
    """
    available = sorted(as_structure(plans.plans, Plans, str(source), _REMEDY).configurations)
    if configuration not in available:
        raise InputError(f"{source}: no configuration {configuration!r}, found {available}; give one of them")
    with malformed_plan_named(source):
        manager = plans.get_configuration(configuration)
    as_structure(manager.configuration, Configuration, f"{source}: {configuration}", _REMEDY)
    return manager


@contextmanager
def malformed_plan_named(source: Path) -> Iterator[None]:
    """Turn whatever nnU-Net's code raises over a malformed plan, or its dataset.json, into an error about the file.

    Args:
        source: the file that holds the plan.

    Raises:
        InputError: for every exception of the block; the block's own stay as they are, unless they lack the file.
    """
    try:
        yield
    except PlanError as error:
        raise InputError(f"{source}: {error}") from None
    except InputError:
        raise
    except Exception as error:  # there is no knowing what nnU-Net trips over
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(
            f"{source}: its plan, or the dataset.json that belongs to it, is not as nnU-Net writes it ({reason}); "
            "plan the dataset again"
        ) from error
