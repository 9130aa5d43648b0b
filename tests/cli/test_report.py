"""`missu report` as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import SCRIPTS, Missu
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
    assert list(tmp_path.rglob("*.*")) == [output]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--level", "5"], "missu: --level 5: expected a probability"),
        (["--metrics", "jaccard"], "missu: --metrics jaccard: unknown"),
        (["--images", "nowhere"], "missu: --images nowhere: no such folder"),
        (["-o", "report.pdf"], "missu: report.pdf: expected the name of an HTML file"),
        (["--case", "case_9", "-np", "1"], f"missu: --case case_9: not among the {len(CASES)} cases scored"),
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


def test_a_missing_extra_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "plotly.py").write_text("raise ModuleNotFoundError('no plotly', name='plotly')\n")
    run = subprocess.run(
        [SCRIPTS / "missu", "report", *models(folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stderr == "missu: plotly is not installed: pip install 'missu-nnunet[report]'\n"
