"""A cut of the integration matrix: every configuration, every label mode, not all of their pairs."""

from pathlib import Path

import pytest
from matrix import CONFIGURATIONS, MODES, Matrix
from tiny_dataset import write_raw_dataset

*SIMPLE, HARDEST = MODES


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    matrix = Matrix(tmp_path_factory.mktemp("matrix"), "MISSUTrainer_1epochs_1iters")
    labels = {"background": 0, "Anterior": 1, "Posterior": 2}
    write_raw_dataset(matrix.raw, dataset_id=4, labels=labels)
    return matrix


def test_every_configuration_with_regions_and_an_ignore_label(matrix: Matrix) -> None:
    matrix.run(HARDEST, CONFIGURATIONS)
    assert all(matrix.passed.values()), matrix.table()
    assert {configuration for _, configuration, _ in matrix.passed} == {"all", *CONFIGURATIONS}
    postprocessed = matrix.predictions(HARDEST, "postprocessed")
    assert {file.name for file in postprocessed.glob("*.nii.gz")} == {"case_000.nii.gz", "case_001.nii.gz"}


@pytest.mark.parametrize("dataset", SIMPLE)
def test_every_other_label_mode(matrix: Matrix, dataset: str) -> None:
    matrix.run(dataset, ("3d_fullres",))
    assert all(passed for (name, _, _), passed in matrix.passed.items() if name == dataset), matrix.table()
    assert matrix.dice(dataset, "3d_fullres", 0) is not None


def test_a_failed_step_does_not_stop_the_others_and_shows(matrix: Matrix, tmp_path: Path) -> None:
    other = Matrix(tmp_path, matrix.trainer)
    other.step(HARDEST, "2d", "predict", "no_such_module")
    other.step(HARDEST, "all", "plan", "nnUNetv2_plan_experiment", "--help")
    assert other.passed == {(HARDEST, "2d", "predict"): False, (HARDEST, "all", "plan"): True}
    assert "failed" in other.table()
