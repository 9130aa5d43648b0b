"""``missu report`` as a user runs it."""

import shutil
from pathlib import Path

import pytest
from commands import Missu
from result_folders import CASES, write_model, write_raw


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    write_raw(root)
    write_model(root, "MISSUTrainer", 1)
    write_model(root, "nnUNetTrainer", 3)
    return root


def models(folder: Path) -> list[Path]:
    return sorted((folder / "nnUNet_results").glob("*/*"))


def test_one_page_of_two_arms(missu: Missu, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_raw", str(folder / "nnUNet_raw"))
    output = tmp_path / "new" / "report.html"
    run = missu("report", *models(folder), "-o", output, "-np", 1)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"{output}: ")
    page = output.read_text()
    assert "MISSUTrainer − nnUNetTrainer, mean of classes, dice: difference" in page
    assert "shown, MISSUTrainer is better" in page
    assert "No image of this case was found" not in page
    assert "no image found" not in run.stdout
    assert list(tmp_path.rglob("*.*")) == [output]


def test_images_of_predictions_are_found_by_the_plans_beside_them(
    missu: Missu, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_raw", str(folder / "nnUNet_raw"))
    model = models(folder)[0]
    predictions = Path(shutil.copytree(model / "fold_0" / "validation", tmp_path / "predictions"))
    shutil.copy(model / "plans.json", predictions)
    run = missu("report", predictions, "-o", tmp_path / "report.html", "-np", 1)
    assert run.returncode == 0, run.stderr
    assert "no image found" not in run.stdout


def test_images_that_are_not_found_are_named(
    missu: Missu, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("nnUNet_raw", raising=False)
    run = missu("report", models(folder)[0], "-o", tmp_path / "report.html", "--paper", tmp_path / "paper", "-np", 1)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("no image found of case_")
    assert "nnUNet_raw" in run.stdout
    assert {"scores.csv", "summary.tex", "dice.pdf"} <= {file.name for file in (tmp_path / "paper").iterdir()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--level", "5"], "missu: --level 5: expected a probability"),
        (["--metrics", "jaccard"], "missu: --metrics jaccard: unknown"),
        (["--images", "nowhere"], "missu: --images nowhere: no such folder"),
        (["-o", "report.pdf"], "missu: report.pdf: expected the name of an HTML file"),
        (["-o", f"{__file__}/report.html"], f"missu: {__file__}: {__file__} is not a folder that can be written to"),
        (["--paper", f"{__file__}/new"], f"missu: {__file__}/new: {__file__} is not a folder that can be written to"),
        (["--case", "case_9", "-np", "1"], f"missu: --case case_9: not among the {len(CASES)} cases to score"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(
    missu: Missu, folder: Path, tmp_path: Path, options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = missu("report", *models(folder), *options)
    assert run.returncode == 2
    assert run.stderr.startswith(message), run.stderr
    assert run.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_unknown_case_is_found_before_anything_is_scored(missu: Missu, folder: Path, tmp_path: Path) -> None:
    predictions = Path(shutil.copytree(models(folder)[0] / "fold_0" / "validation", tmp_path / "predictions"))
    next(predictions.glob("*.nii.gz")).write_bytes(b"not an image")  # scoring would end with an error of its own
    run = missu("report", predictions, "-o", tmp_path / "report.html", "--case", "case_9", "-np", 1)
    assert run.returncode == 2
    assert run.stderr.startswith("missu: --case case_9: not among"), run.stderr
