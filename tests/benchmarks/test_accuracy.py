from pathlib import Path

import numpy as np
import pytest
from accuracy import METRICS, Scores, read_scores, report, with_unet, write_scores
from unet_plans import unet_plan

from missu_nnunet.architecture.configuration import MISSU_CLASS, planned_arch_kwargs

LENGTH = "_2epochs_3iters_noTTA"


def scores_of(arms: dict[str, float], runs: int = 2) -> Scores:
    """Ten cases each: an arm's Dice and HD95 differ from case to case, and by a constant between arms."""
    base = np.random.default_rng(0).uniform(0.6, 0.8, size=(runs, 10))
    return {
        (arm + LENGTH, run): {f"case_{case}": (base[run, case] + gain, 3 - gain) for case in range(10)}
        for arm, gain in arms.items()
        for run in range(runs)
    }


def test_scores_come_back_as_they_were_written(tmp_path: Path) -> None:
    scores = scores_of({"MISSUTrainer": 0.0, "nnUNetTrainer": -0.1})
    scores["MISSUTrainer" + LENGTH, 0]["case_0"] = (0.0, float("nan"))  # an empty segmentation has no distance
    write_scores(scores, tmp_path / "scores.csv")
    found = read_scores(tmp_path / "scores.csv")
    assert found.keys() == scores.keys()
    for key, cases in scores.items():
        assert found[key].keys() == cases.keys()
        for case, values in cases.items():
            assert found[key][case] == pytest.approx(values, abs=1e-5, nan_ok=True)
            assert len(values) == len(METRICS)
    assert read_scores(tmp_path / "none.csv") == {}


def test_differences_are_paired_over_the_runs_that_both_have(capsys: pytest.CaptureFixture[str]) -> None:
    scores = scores_of({"MISSUTrainer": 0.05, "nnUNetTrainer": 0.0, "nnUNetTrainerAdamW": 0.02})
    del scores["nnUNetTrainerAdamW" + LENGTH, 1]
    report("Dataset004_Hippocampus", scores, ["MISSUTrainer", "nnUNetTrainer", "nnUNetTrainerAdamW"], LENGTH)
    printed = capsys.readouterr().out
    assert (
        "| `nnUNetTrainer` | 2 | +0.0500 | +0.0500 to +0.0500 | +0.0500, +0.0500 | -0.05 | -0.05 to -0.05 |" in printed
    )
    assert "| `nnUNetTrainerAdamW` | 1 | +0.0300 | +0.0300 to +0.0300 | +0.0300 | -0.03 | -0.03 to -0.03 |" in printed
    assert "Primus" not in printed


def test_the_unets_plans_are_those_of_nnunets_network() -> None:
    unet, patch_size = unet_plan((1, 1), (160, 128), 16)
    architecture = {"network_class_name": MISSU_CLASS, "arch_kwargs": planned_arch_kwargs(unet, patch_size)}
    plan = {"spacing": [1, 1], "patch_size": patch_size, "architecture": architecture}
    changed = with_unet({"configurations": {"2d": plan}}, "2d")["configurations"]["2d"]["architecture"]
    assert changed["network_class_name"].endswith(".PlainConvUNet")
    assert changed["arch_kwargs"] == unet
