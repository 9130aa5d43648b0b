import json
import math
import os
import shutil
from pathlib import Path

import pytest
from commands import Missu

from missu_nnunet.planning.planners import MISSUPlannerCPU


@pytest.fixture(scope="module")
def plans_file(tiny_dataset: str) -> Path:
    MISSUPlannerCPU(tiny_dataset).plan_experiment()
    return Path(os.environ["nnUNet_preprocessed"]) / tiny_dataset / "nnUNetMISSUPlansCPU.json"


def test_table_states_what_the_plan_gives(missu: Missu, plans_file: Path) -> None:
    result = missu("info", plans_file, "-c", "3d_fullres")
    assert result.returncode == 0, result.stderr
    for text in ("nnUNetMISSUPlansCPU 3d_fullres", "tokens", "parameters", "GiB"):
        assert text in result.stdout


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_json_agrees_with_the_plan(missu: Missu, plans_file: Path, configuration: str) -> None:
    result = missu("info", plans_file, "-c", configuration, "--json")
    summary = json.loads(result.stdout)
    plan = json.loads(plans_file.read_text())["configurations"][configuration]
    assert summary["patch_size"] == plan["patch_size"]
    assert [stage["channels"] for stage in summary["stages"]] == plan["architecture"]["arch_kwargs"][
        "features_per_stage"
    ]
    assert summary["tokens"] == math.prod(summary["stages"][summary["transformer_stage"]]["size"])


def test_a_plan_without_a_transformer(missu: Missu, plans_file: Path, tmp_path: Path) -> None:
    plans = json.loads(plans_file.read_text())
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["transformer"] = None
    shutil.copy(plans_file.with_name("dataset.json"), tmp_path)
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    result = missu("info", tmp_path / "plans.json", "-c", "3d_fullres")
    assert result.returncode == 0, result.stderr
    assert "none" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.json"], "nowhere.json: no such file"),
        (["{plans}", "-c", "4d"], "no configuration '4d', found ['2d', '3d_fullres']"),
        (["{broken}"], "cannot be read as JSON"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    missu: Missu, arguments: list[str], message: str, plans_file: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    result = missu("info", *(argument.format(plans=plans_file, broken=broken) for argument in arguments))
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
