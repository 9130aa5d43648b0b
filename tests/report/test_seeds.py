"""The page of an arm with several seeds, beside one that was trained once."""

from pathlib import Path
from typing import Any

from result_folders import CASES, write_model, write_raw

from missu_nnunet.evaluation.protocols import NNUNET
from missu_nnunet.evaluation.results import gather_results
from missu_nnunet.report.paper import write_tables


def write_seed(root: Path, seed: int, short_by: int) -> Path:
    """A model of this seed, whose predictions end ``short_by`` voxels early."""
    made = write_model(root, "MISSUTrainer", short_by)
    place = root / "nnUNet_results" / f"seed_{seed}" / made.parent.name / made.name
    place.parent.mkdir(parents=True)
    return made.rename(place)


def test_seeds_are_one_arm_whose_noise_is_said(report: Any, tmp_path: Path) -> None:
    write_raw(tmp_path)
    seeds = [write_seed(tmp_path, seed, short_by) for seed, short_by in ((0, 1), (1, 2))]
    once = write_model(tmp_path, "nnUNetTrainer", 3)
    page = report([*seeds, once]).read_text()
    assert page.count('<li class="score"') == 2
    assert page.count(", 2 seeds ± 0.0") == 4  # the arm's card, and a cell for each class and their mean
    assert "Pictures, calibration, and what the arm was trained with are of its first seed." in page
    assert "one seed of nnUNetTrainer: how much another training of it would differ is not known" in page
    assert "MISSUTrainer, seed 1: fold 1 has no checkpoint" in page
    assert "seed 1 fold 0" in page

    results = gather_results([*seeds, once], NNUNET)
    write_tables(results, None, tmp_path / "paper")
    rows = [line.split(",") for line in (tmp_path / "paper" / "scores.csv").read_text().splitlines()]
    assert rows[0] == ["case", "arm", "seed", "class", "metric", "value"]
    assert len(rows) == 1 + 3 * len(CASES) * 2
    assert {tuple(row[1:3]) for row in rows[1:]} == {
        ("MISSUTrainer", "0"),
        ("MISSUTrainer", "1"),
        ("nnUNetTrainer", ""),
    }


def test_seeds_of_a_single_arm_make_a_page(report: Any, tmp_path: Path) -> None:
    write_raw(tmp_path)
    page = report([write_seed(tmp_path, seed, 1) for seed in (0, 1)]).read_text()
    assert "One arm: nothing to compare it with" in page
    assert ", 2 seeds ± 0.000" in page
