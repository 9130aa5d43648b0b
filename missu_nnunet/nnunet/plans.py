"""Reading a plan as a user names it: a file and one of its configurations."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from missu_nnunet.errors import InputError
from missu_nnunet.files import read_json
from missu_nnunet.nnunet.names import check_names


def read_plan(plans_file: Path, configuration: str) -> tuple[PlansManager, ConfigurationManager, dict[str, Any]]:
    """The plans, one configuration, and the dataset's ``dataset.json``.

    Args:
        plans_file: a plans file of nnU-Net; the dataset's ``dataset.json`` lies beside it, as nnU-Net puts it.
        configuration: e.g. ``3d_fullres``.

    Raises:
        InputError: if a file is missing or unreadable, names something that does not belong there, or the plan has no
            such configuration.
    """
    plans = read_json(plans_file, "give a plans file, e.g. $nnUNet_preprocessed/DATASET/nnUNetMISSUPlans.json")
    dataset_json = read_json(
        plans_file.with_name("dataset.json"), "nnU-Net puts it beside the plans; it names channels and labels"
    )
    check_names(plans, str(plans_file))
    check_names(dataset_json, str(plans_file.with_name("dataset.json")))
    with malformed_plan_named(plans_file):
        available = sorted(plans["configurations"])
        if configuration not in available:
            raise InputError(
                f"{plans_file}: no configuration {configuration!r}, found {available}; give one of them with -c"
            )
        plans_manager = PlansManager(plans)
        return plans_manager, plans_manager.get_configuration(configuration), dataset_json


@contextmanager
def malformed_plan_named(source: Path) -> Iterator[None]:
    """Turn whatever nnU-Net's code raises over a malformed plan, or its dataset.json, into an error about the file.

    Args:
        source: the file that holds the plan.

    Raises:
        InputError: for every exception of the block; the block's own stay as they are.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # there is no knowing what nnU-Net trips over
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(
            f"{source}: its plan, or the dataset.json that belongs to it, is not as nnU-Net writes it ({reason}); "
            "plan the dataset again"
        ) from error
