"""Reading a plan as a user names it: a file and one of its configurations."""

import json
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from missu_nnunet.errors import InputError


def read_plan(plans_file: Path, configuration: str) -> tuple[PlansManager, ConfigurationManager, dict[str, Any]]:
    """The plans, one configuration, and the dataset's ``dataset.json``.

    Args:
        plans_file: a plans file of nnU-Net; the dataset's ``dataset.json`` lies beside it, as nnU-Net puts it.
        configuration: e.g. ``3d_fullres``.

    Raises:
        InputError: if a file is missing or unreadable, or the plan has no such configuration.
    """
    plans = _load_json(plans_file, "give a plans file, e.g. $nnUNet_preprocessed/DATASET/nnUNetMISSUPlans.json")
    dataset_json = _load_json(
        plans_file.with_name("dataset.json"), "nnU-Net puts it beside the plans; it names channels and labels"
    )
    available = sorted(plans.get("configurations", {}))
    if configuration not in available:
        raise InputError(
            f"{plans_file}: no configuration {configuration!r}, found {available}; give one of them with -c"
        )
    plans_manager = PlansManager(plans)
    return plans_manager, plans_manager.get_configuration(configuration), dataset_json


def _load_json(file: Path, remedy: str) -> dict[str, Any]:
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; {remedy}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{file}: cannot be read as JSON ({error}); {remedy}") from None
