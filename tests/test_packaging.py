from importlib.metadata import entry_points, files
from pathlib import Path

import pytest

OURS = (
    "missu_nnunet/",
    "nnunetv2/training/nnUNetTrainer/missu/",
    "nnunetv2/experiment_planning/missu/",
    "missu_nnunet-",
)


def installed_files() -> list[str]:
    found = [str(file) for file in files("missu-nnunet") or []]
    if not any(file.startswith("nnunetv2/") for file in found):
        pytest.skip("an editable install does not place the shims")
    return found


def test_everything_lies_in_folders_of_our_own_so_that_uninstalling_leaves_nothing() -> None:
    assert [file for file in installed_files() if not file.startswith(OURS) and Path(file).name != "missu"] == []


@pytest.mark.parametrize(
    "file",
    [
        "missu_nnunet/py.typed",
        "nnunetv2/training/nnUNetTrainer/missu/missu_trainers.py",
        "nnunetv2/experiment_planning/missu/missu_planners.py",
        "nnunetv2/experiment_planning/missu/nnUNetMISSUPlansPaper.json",
    ],
)
def test_what_nnunet_and_type_checkers_look_for_is_installed(file: str) -> None:
    assert file in installed_files()


@pytest.mark.parametrize(
    ("folder", "package"),
    [
        ("missu_nnunet", "missu_nnunet"),
        ("trainers", "nnunetv2/training/nnUNetTrainer/missu"),
        ("plans", "nnunetv2/experiment_planning/missu"),
    ],
)
def test_every_module_of_the_checkout_is_installed(folder: str, package: str) -> None:
    source = Path(__file__).parents[1] / folder
    modules = {f"{package}/{file.relative_to(source).as_posix()}" for file in source.rglob("*.py")}
    assert modules
    assert modules <= set(installed_files())


def test_command_is_the_entry_point() -> None:
    (script,) = (entry for entry in entry_points(group="console_scripts") if entry.name == "missu")
    assert script.value == "missu_nnunet.cli.main:main"
