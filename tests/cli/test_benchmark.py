import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from missu_nnunet.cli.main import app
from missu_nnunet.errors import InputError
from missu_nnunet.planning.planners import MISSUPlannerCPU


@pytest.fixture(scope="module")
def plans_file(tiny_dataset: str) -> Path:
    MISSUPlannerCPU(tiny_dataset).plan_experiment()
    return Path(os.environ["nnUNet_preprocessed"]) / tiny_dataset / "nnUNetMISSUPlansCPU.json"


def test_table_has_a_row_per_network(plans_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    result = CliRunner().invoke(app, ["benchmark", str(plans_file), "-c", "2d", "--rounds", "2"])
    assert result.exit_code == 0, result.output
    for text in ("ResidualEncoderUNet", "MISSU, labels missing", "GMAC", "95 % interval"):
        assert text in result.output


def test_json_holds_every_round(plans_file: Path) -> None:
    result = CliRunner().invoke(app, ["benchmark", str(plans_file), "-c", "2d", "--rounds", "2", "--json"])
    costs = json.loads(result.output)
    assert [len(cost["step"]) for cost in costs] == [2, 2, 2]


def test_a_plan_that_no_memory_holds_is_one_line(plans_file: Path) -> None:
    plans = json.loads(plans_file.read_text())
    plans["configurations"]["2d"] |= {"patch_size": [2**13, 2**13], "batch_size": 2**20}
    huge = plans_file.with_name("Huge.json")
    huge.write_text(json.dumps(plans))
    result = CliRunner().invoke(app, ["benchmark", str(huge), "-c", "2d", "--rounds", "2"])
    assert isinstance(result.exception, InputError)
    assert str(result.exception).startswith(f"{huge}: 2d does not fit into the memory of cpu; ")


@pytest.mark.parametrize("device", ["abacus", "meta"])
def test_a_device_that_is_not_there(plans_file: Path, device: str) -> None:
    result = CliRunner().invoke(app, ["benchmark", str(plans_file), "--device", device])
    assert isinstance(result.exception, InputError)
    assert f"--device {device}: not usable here" in str(result.exception)
