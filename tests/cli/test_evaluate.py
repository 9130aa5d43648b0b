"""`missu evaluate` as a user runs it."""

import json
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk


def missu(*arguments):
    code = "from missu_nnunet.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def folders(tmp_path):
    for folder, shift in (("pred", 1), ("ref", 0)):
        (tmp_path / folder).mkdir()
        labels = np.zeros((6, 12, 12), np.uint8)
        labels[2:4, 3 + shift : 9 + shift, 3:9] = 1
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / folder / "a.nii.gz"))
    return tmp_path / "pred", tmp_path / "ref"


def test_table_and_files(folders, tmp_path):
    run = missu("evaluate", *folders, "--protocol", "chaos", "--json", tmp_path / "scores.json", "-np", "1")
    assert run.returncode == 0, run.stderr
    assert "liver" in run.stdout
    assert "0.8333" in run.stdout
    liver = json.loads((tmp_path / "scores.json").read_text())["cases"]["a"]["liver"]
    assert liver["dice"] == pytest.approx(5 / 6)
    assert liver["ravd"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--protocol", "acdc"], "missu: --protocol acdc: unknown, expected one of nnunet, brats, chaos"),
        (["--metrics", "dice,jaccard"], "missu: --metrics jaccard: unknown, expected some of dice, hd95"),
        (["--metrics", "score"], "missu: --metrics score: unknown"),
        (["--dataset", "nowhere"], "missu: nowhere: no dataset there"),
    ],
)
def test_errors_are_one_line(folders, options, message):
    run = missu("evaluate", *folders, *options)
    assert run.returncode == 2
    assert run.stderr.startswith(message)
    assert run.stderr.count("\n") == 1
